"""`dstack stop`: stops a run, and with --group the runs it was made with."""

from __future__ import annotations

import argparse

from dstack.cli import connection, terminal
from dstack.client.refusal import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="name", help="the run")
    parser.add_argument("--group", action="store_true", help="also stop the runs it needs, and all others of its group")
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    for name in args.names:
        run = client.stop(name, group=args.group)
        terminal.tell(f"{plain(run['name'])}: {run['state']}" + ("" if run["finished_at"] else ", stopping"))
    return 0
