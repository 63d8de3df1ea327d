"""What the CLI asks about the Git repository it stands in: its folder, its remotes, the repo it is on the server."""

from __future__ import annotations

import os
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
_FILTER = re.compile(r"filter\.(.+)\.(?:clean|process|required)\Z", re.DOTALL)


class Repository(NamedTuple):
    """A working tree: `root` is its top folder, `objects` where git keeps its objects, `config` git's settings for it
    (keys as git lists them, the last value of each)."""

    root: Path
    objects: Path
    config: Mapping[str, str]

    def git(self, args: list[str], *, env: Mapping[str, str] | None = None, stdin: bytes | None = None) -> bytes:
        """Run git here with the user's own configuration, taking no lock that is not needed."""
        return git(args, cwd=self.root, env={"GIT_OPTIONAL_LOCKS": "0", **(env or {})}, stdin=stdin, own_config=False)

    @property
    def remotes(self) -> dict[str, str]:
        """Remote names and their addresses as configured."""
        return {match[1]: url for key, url in self.config.items() if (match := _REMOTE_URL.match(key))}

    @property
    def filters(self) -> list[str]:
        """The names of filters (such as lfs) that git would run here."""
        return sorted({match[1] for key in self.config if (match := _FILTER.match(key))})


def open_repository(folder: Path) -> Repository:
    """The working tree around a folder. Raises Invalid when there is none."""
    forget_inherited()
    words = ["rev-parse", "--path-format=absolute", "--show-toplevel", "--git-path", "objects"]
    try:
        out = git(words, cwd=folder, own_config=False)
    except GitFailed as error:
        if "not a git repository" in error.message or "must be run in a work tree" in error.message:
            raise Invalid(
                f"{folder} is not inside the working tree of a Git repository",
                "Go to one, or make one here: git init && git add . && git commit -m start",
            ) from None
        raise
    root, objects = os.fsdecode(out).rstrip("\n").split("\n")
    return Repository(Path(root), Path(objects), _read_config(Path(root)))


def _read_config(root: Path) -> dict[str, str]:
    listed = git(["config", "-z", "--list"], cwd=root, own_config=False).decode("utf-8", "replace")
    return {key: value for key, _, value in (entry.partition("\n") for entry in listed.split("\0")) if key}


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
    return repo_name(repository.remotes, repository.root.name)
