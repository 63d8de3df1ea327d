"""`dstack restart`: makes a new run of the same workflow, commit and variables."""

from __future__ import annotations

import argparse

from dstack.cli import connection, follow, output, terminal
from dstack.client.refusal import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the run")
    parser.add_argument("-d", "--detach", action="store_true", help="print the new run's name and leave")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    run = client.restart(args.name)[0]
    if args.json:
        output.print_json(run)
        return 0
    if args.detach:
        print(plain(run["name"]))
        return 0
    terminal.tell(f"{plain(run['name'])}  {client.url}/runs/{run['name']}")
    return follow.follow(client, run["name"])
