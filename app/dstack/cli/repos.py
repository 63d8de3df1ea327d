"""`dstack repos`: lists the repos the server knows, or adds one."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, quantities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["list", "add"], default="list", help="default: list")
    parser.add_argument("name", nargs="?", default="", help="OWNER/NAME of the repo to add")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    output.require_name(args, "add")
    client = connection.connect(args)
    repos = [client.add_repo(args.name)] if args.action == "add" else client.repos()
    now = output.now()
    rows = [
        [
            repo["name"],
            repo["default_branch"],
            str(repo["runs"]),
            quantities.ago(repo["created_at"], now),
            repo["clone_url"],
        ]
        for repo in repos
    ]
    output.print_listing(args, repos, ["REPO", "BRANCH", "RUNS", "ADDED", "GIT REMOTE"], rows)
    return 0
