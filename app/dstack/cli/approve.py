"""`dstack approve`: lets the runs of a fork's pull request begin, at the commit you have looked at."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, terminal
from dstack.client.refusal import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a run that waits for it; all others of its pull request's commit begin too")
    parser.add_argument("--budget", default="", help="what they may use together, such as 4gpu-h or 30gpu-min")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    run = connection.connect(args).approve(args.name, budget=args.budget)
    if args.json:
        output.print_json(run)
        return 0
    limit = f", for {plain(args.budget)} at most" if args.budget else ""
    terminal.tell(f"#{run['pull_request']} is approved at {run['sha'][:7]}{limit}")
    terminal.tell(f"{plain(run['name'])}: {run['state']}")
    return 0
