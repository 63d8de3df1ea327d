"""What the CLI asks about the Git repository it stands in: its folder, its remotes, the repo it is on the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dstack.errors import GitFailed, Invalid
from dstack.git.origin import repo_from_url
from dstack.git.run import forget_inherited, git

REMOTE = "dstack"
LOCAL_OWNER = "local"
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_REMOTE_URL = re.compile(r"remote\.(.+)\.url\Z", re.DOTALL)


class Repository(NamedTuple):
    """A working tree: `root` is its top folder, `objects` where git keeps its objects."""

    root: Path
    objects: Path

    def git(self, args: list[str], *, env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> bytes:
        """Run git here with the user's own configuration, taking no lock that is not needed."""
        return git(args, cwd=self.root, env={"GIT_OPTIONAL_LOCKS": "0", **(env or {})}, stdin=stdin, own_config=False)


def open_repository(folder: Path) -> Repository:
    """The working tree around a folder. Raises Invalid when there is none."""
    forget_inherited()
    try:
        out = git(
            ["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "objects"],
            cwd=folder,
            own_config=False,
        )
    except GitFailed as error:
        if "not a git repository" in error.message or "must be run in a work tree" in error.message:
            raise Invalid(
                f"{folder} is not inside the working tree of a Git repository",
                "Go to one, or make one here: git init && git add . && git commit -m start",
            ) from None
        raise
    root, objects = out.decode("utf-8", "surrogateescape").rstrip("\n").split("\n")
    return Repository(Path(root), Path(objects))


def read_remotes(repository: Repository) -> dict[str, str]:
    """Remote names and their addresses as configured (the first of several)."""
    out = git(
        ["config", "-z", "--get-regexp", r"^remote\..*\.url$"],
        cwd=repository.root,
        own_config=False,
        ok_codes=(0, 1),  # 1: there is none
    )
    remotes: dict[str, str] = {}
    for entry in out.decode("utf-8", "replace").split("\0"):
        key, _, url = entry.partition("\n")
        if match := _REMOTE_URL.match(key):
            remotes.setdefault(match[1], url)
    return remotes


def repo_name(remotes: Mapping[str, str], folder: str) -> str:
    """The repo a working tree is on the server: by its remote `dstack`, else `origin`, else `local/FOLDER`; pure."""
    for remote in (REMOTE, "origin"):
        if remote in remotes and (found := repo_from_url(remotes[remote])):
            return found.repo
    name = _NOT_IN_A_NAME.sub("-", folder).strip("-.")[:100].removesuffix(".git").rstrip("-.")
    while ".." in name:
        name = name.replace("..", ".")
    return f"{LOCAL_OWNER}/{name or 'repo'}"


def find_repo_name(folder: Path) -> str:
    """The same for the repository around a folder."""
    repository = open_repository(folder)
    return repo_name(read_remotes(repository), repository.root.name)
