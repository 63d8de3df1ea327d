"""`dstack deliveries`: lists the events that came in and what each did; `replay` handles one again."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, quantities, terminal
from dstack.client import Json
from dstack.client.refusal import plain
from dstack.errors import Usage

DEFAULT_LIMIT = 20
MAX_LIMIT = 500
NARROW = 100  # columns of a terminal; what has room in a wider one is left out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["list", "replay"], default="list", help="default: list")
    parser.add_argument("id", nargs="?", default="", help="the delivery to replay")
    parser.add_argument("--repo", default="", help="only those of this repo (OWNER/NAME)")
    parser.add_argument("--state", default="", help="only those received, processed, ignored or failed")
    parser.add_argument("--own", action="store_true", help="also what GitHub tells of this server's own doings")
    parser.add_argument("-n", "--limit", type=_limit, default=DEFAULT_LIMIT, help=f"how many (default {DEFAULT_LIMIT})")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    if bool(args.id) != (args.action == "replay"):
        raise Usage("`dstack deliveries replay ID` takes the number of a delivery, and `list` takes none")
    client = connection.connect(args)
    if args.action == "replay":
        return _replayed(args, client.replay_delivery(args.id))
    page = client.deliveries(limit=args.limit, repo=args.repo, state=args.state, own="1" if args.own else "")
    now = output.now()
    is_narrow = terminal.width() < NARROW
    rows = [
        [
            str(row["id"]),
            row["state"],
            row["event"],
            quantities.ago(row["received_at"], now),
            _what_came(row),
            *([] if is_narrow else [row["sender"], row["repo"]]),
        ]
        for row in page["deliveries"]
    ]
    headers = ["ID", "STATE", "EVENT", "RECEIVED", "WHAT CAME OF IT", *([] if is_narrow else ["SENDER", "REPO"])]
    output.print_listing(args, page["deliveries"], headers, rows)
    return 0


def _what_came(row: Json) -> str:
    """The runs it made, else why there are none."""
    return " ".join(row["runs"]) or " ".join(row["reason"].split())


def _replayed(args: argparse.Namespace, again: Json) -> int:
    if args.json:
        output.print_json(again)
    else:
        print(again["id"])
        terminal.tell(f"{plain(again['event'])} is handled again: `dstack deliveries` shows what came of it.")
    return 0


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_LIMIT}")
    return int(text)
