"""`dstack tag`: puts a tag on a succeeded run, moving it from where it was."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output
from dstack.cli.tagname import parse_tag
from dstack.client.refusal import plain
from dstack.errors import Usage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="the run")
    parser.add_argument("tag", help="NAME, or WORKFLOW:NAME with the run's own workflow")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    wanted = parse_tag(args.tag)
    client = connection.connect(args)
    run = client.run(args.run)
    if wanted.workflow not in ("", run["workflow"]) or wanted.repo not in ("", run["repo"]):
        raise Usage(
            f"{args.run} is a run of {run['workflow']} in {run['repo']}, so {args.tag!r} cannot be put on it",
            f"Write: dstack tag {args.run} {wanted.name}",
        )
    tag = client.set_tag(run["repo"], run["workflow"], wanted.name, run["name"])
    if args.json:
        output.print_json(tag)
    else:
        print(plain(f"{tag['tag']} is on {tag['run']}"))
    return 0
