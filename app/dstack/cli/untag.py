"""`dstack untag`: removes a tag; the run and its artifacts stay."""

from __future__ import annotations

import argparse
from pathlib import Path

from dstack.cli import connection
from dstack.cli.tagname import parse_tag
from dstack.errors import Usage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tag", help="WORKFLOW:NAME, or OWNER/REPO/WORKFLOW:NAME")
    parser.add_argument("--repo", default="", help="the repo (default: the one of this folder)")
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    wanted = parse_tag(args.tag)
    if not wanted.workflow:
        raise Usage(f"{args.tag!r} names no workflow", f"Write WORKFLOW:{wanted.name}; `dstack tags` lists them.")
    repo = wanted.repo or args.repo or _repo_here()
    connection.connect(args).delete_tag(repo, wanted.workflow, wanted.name)
    print(f"{wanted.workflow}:{wanted.name} of {repo} is removed")
    return 0


def _repo_here() -> str:
    from dstack.cli.repository import find_repo_name

    return find_repo_name(Path.cwd())
