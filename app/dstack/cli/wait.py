"""`dstack wait`: blocks until a run ends and exits as the run did."""

from __future__ import annotations

import argparse

from dstack.cli import connection, follow, output, terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the run")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="give up after so long, with exit code 124")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    try:
        run = follow.wait_for_end(client, args.name, args.timeout)
        run = run and follow.wait_for_verdict(client, run)
    except KeyboardInterrupt:
        terminal.tell(f"\nThe run goes on. Wait again: dstack wait {args.name}")
        return 130
    if run is None:
        terminal.tell(f"dstack: {args.name} has not ended within {args.timeout:g} s; it goes on")
        return follow.TIMED_OUT
    if args.json:
        output.print_json(run)
    else:
        follow.print_end(run)
    return follow.exit_code_of(run)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
