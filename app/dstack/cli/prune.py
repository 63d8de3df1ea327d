"""`dstack prune`: removes what nothing refers to any more; counts only, unless --yes says so."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, quantities, terminal

DEFAULT_DAYS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", type=_days, default=DEFAULT_DAYS, help="keep runs younger than this (default 30)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--dry-run", action="store_true", help="only count (this is what happens without --yes)")
    choice.add_argument("-y", "--yes", action="store_true", help="remove it")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    found = connection.connect(args).prune(days=args.days, dry_run=not args.yes)
    if args.json:
        output.print_json(found)
        return 0
    verb = "Removed" if args.yes else "To be removed:"
    print(
        f"{verb} {found['runs']} runs, {found['artifacts']} artifacts, {found['blobs']} blobs, "
        f"{quantities.size(found['bytes'])}"
    )
    if not args.yes:
        terminal.tell(f"Nothing was removed. Do it: dstack prune --days {args.days} --yes")
    return 0


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 36_500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return int(text)
