"""`dstack tags`: lists tags, the run each is on and what that run saved."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, quantities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repo", default="", help="only tags of this repo (OWNER/NAME)")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    tags, now = connection.connect(args).tags(args.repo), output.now()
    rows = [
        [
            tag["tag"],
            tag["run"],
            output.short_sha(tag["sha"]),
            tag["repo"],
            quantities.ago(tag["moved_at"], now),
            tag["moved_by"],
            " ".join(artifact["path"] for artifact in tag["artifacts"]),
        ]
        for tag in tags
    ]
    output.print_listing(args, tags, ["TAG", "RUN", "COMMIT", "REPO", "MOVED", "BY", "ARTIFACTS"], rows)
    return 0
