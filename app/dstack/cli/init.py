"""`dstack init`: writes a starter `.dstack/` and makes the server a remote of this repository; overwrites nothing."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from dstack.cli import connection, terminal
from dstack.cli.repository import REMOTE, Repository, open_repository, repo_name
from dstack.cli.starter import starter_files
from dstack.git.names import check_repo_name

NOTES = "+refs/notes/dstack:refs/notes/dstack"
BRANCHES = f"+refs/heads/*:refs/remotes/{REMOTE}/*"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--repo", default="", help="OWNER/NAME on the server (default: by origin, else local/FOLDER)")
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    repository = open_repository(Path.cwd())
    remotes = repository.remotes
    repo = check_repo_name(args.repo or repo_name(remotes, repository.root.name))
    tracked = repository.git(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).decode(
        "utf-8", "replace"
    )
    for path, text in starter_files(set(tracked.split("\0"))).items():
        _write(repository.root / path, path, text, dry_run=args.dry_run)
    server = connection.find_target(args).server
    if REMOTE in remotes:
        print(f"the remote {REMOTE} is there already: {remotes[REMOTE]}")
    elif not server:
        print("no server is configured, so no remote was added; after `dstack server start`, run this again")
        return 0
    else:
        _add_remote(repository, server.rstrip("/"), repo, dry_run=args.dry_run)
    terminal.tell(
        f"Next: git add .dstack && git commit -m 'Add workflows' && git push {REMOTE} HEAD\n"
        "Results stand in Git notes: git fetch dstack && git log --notes=dstack"
    )
    return 0


def remote_settings(server: str, repo: str, helper: str) -> list[tuple[str, str]]:
    """The lines of the repository's configuration that make the server a remote; pure. The token is not among them:
    git asks `dstack credential` for it."""
    return [
        (f"remote.{REMOTE}.url", f"{server}/git/{repo}.git"),
        (f"remote.{REMOTE}.fetch", BRANCHES),
        (f"remote.{REMOTE}.fetch", NOTES),
        (f"credential.{server}.helper", ""),  # no other helper shall store it
        (f"credential.{server}.helper", helper),
    ]


def _add_remote(repository: Repository, server: str, repo: str, *, dry_run: bool) -> None:
    helper = f"!{shlex.quote(sys.executable)} -m dstack.cli.main credential"
    if not dry_run:
        for key, value in remote_settings(server, repo, helper):
            repository.git(["config", "--local", "--add", key, value])
    print(f"{'would add' if dry_run else 'added'} the remote {REMOTE}: {server}/git/{repo}.git")


def _write(path: Path, name: str, text: str, *, dry_run: bool) -> None:
    if path.exists() or path.is_symlink():
        print(f"{name} is there already, left as it is")
        return
    if dry_run:
        print(f"would write {name}:\n\n" + "".join(f"    {line}\n" for line in text.splitlines()))
        return
    path.parent.mkdir(exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    print(f"wrote {name}")
