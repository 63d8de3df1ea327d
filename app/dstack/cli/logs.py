"""`dstack logs`: prints the log of a run; with --follow until the run ends."""

from __future__ import annotations

import argparse

from dstack.cli import connection, follow, output, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the run")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends, and exit as it did")
    parser.add_argument("--job", default="", help="only this job of the run")
    parser.add_argument("--offset", type=_offset, default=0, help="begin at this byte")
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    if args.follow:
        return follow.follow(client, args.name, job=args.job, offset=args.offset)
    client.run(args.name)  # an unknown run is said at once
    run = follow.print_log(client, args.name, job=args.job, offset=args.offset, until_end=False)
    if not run["started_at"] and not follow.is_final(run):
        terminal.tell(f"{run['state']}: {output.short_reason(run) or 'no log yet'}")
    return 0


def _offset(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(text)
