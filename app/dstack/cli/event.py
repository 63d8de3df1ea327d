"""`dstack event`: says that something happened, and starts the workflows that wait for it."""

from __future__ import annotations

import argparse
import secrets
from pathlib import Path

from dstack.cli import connection, output, runs
from dstack.cli.repository import open_repository, repo_name
from dstack.client.refusal import plain
from dstack.language.flags import read_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("event", help="its name, as workflows have it under `on: event:`")
    parser.add_argument("--repo", default="", help="OWNER/NAME on the server (default: by the remote dstack or origin)")
    parser.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable of the workflows that declare it",
    )
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    values = read_pairs(args.var, "--var")
    repository = None if args.repo else open_repository(Path.cwd())
    repo = args.repo or (repo_name(repository.remotes, repository.root.name) if repository else "")
    answer = connection.connect(args).post_event(
        {"repo": repo, "event": args.event, "payload": values, "idempotency_key": secrets.token_hex(16)}
    )
    if args.json:
        output.print_json(answer)
    elif answer["runs"]:
        runs.print_runs(answer["runs"])
    else:
        print(plain(f"nothing started: {answer['reason']}"))
    return 0 if answer["state"] != "failed" else 1
