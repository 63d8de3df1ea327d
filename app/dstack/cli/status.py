"""Reads how a working tree differs from its commit, from git's own machine-readable status."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from dstack.cli.repository import Repository
from dstack.git.run import config_environment

_LIKE_SECRET = re.compile(
    r"(?:\.env(?:\.(?!example$|sample$|template$|dist$)[^/]+)?|.*\.env|\.netrc|\.pypirc|\.npmrc|\.git-credentials"
    r"|id_(?:rsa|dsa|ecdsa|ed25519)|.*\.(?:pem|key|p12|pfx|jks)|credentials(?:\.\w+)?|secrets?\.(?:ya?ml|json|toml|txt))"
    r"\Z",
    re.IGNORECASE,
)


class Change(NamedTuple):
    """A path whose file differs from HEAD. `mode` is that of the file on disk, empty when it is gone."""

    path: bytes
    mode: str
    is_untracked: bool = False


class Status(NamedTuple):
    """`head` is empty before the first commit, `branch` on a detached HEAD. Paths are as git has them: bytes."""

    head: str
    branch: str
    changes: tuple[Change, ...]
    unmerged: tuple[bytes, ...]
    nested: tuple[bytes, ...]


def read_status(repository: Repository) -> Status:
    """The state of the working tree. Untracked files count one by one, ignored ones not at all."""
    words = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--no-renames", "--ignored=no"]
    # A filter of the user's (LFS) must not run for a look at the tree, and what it would do is none of our business.
    off = [
        (f"filter.{name}.{key}", value)
        for name in repository.filters
        for key, value in (("clean", ""), ("process", ""), ("required", "false"))
    ]
    out = repository.git([*words, "--ignore-submodules=none"], env=config_environment(off))
    status = parse_status(out)
    root = repository.root
    untracked = [
        change._replace(mode=_mode_on_disk(root, change.path)) for change in status.changes if change.is_untracked
    ]
    tracked = [change for change in status.changes if not change.is_untracked]
    return status._replace(changes=(*tracked, *untracked))


def parse_status(out: bytes) -> Status:
    """The fields of `git status --porcelain=v2 --branch -z`; pure. Modes of untracked files are not in it."""
    head = branch = ""
    changes: list[Change] = []
    unmerged: list[bytes] = []
    nested: list[bytes] = []
    for entry in out.split(b"\0"):
        kind, _, rest = entry.partition(b" ")
        if kind == b"#":
            key, _, value = rest.partition(b" ")
            if key == b"branch.oid" and value != b"(initial)":
                head = value.decode()
            elif key == b"branch.head" and value != b"(detached)":
                branch = value.decode("utf-8", "replace")
        elif kind == b"1":
            _xy, sub, _m_head, _m_index, m_tree, _h_head, _h_index, path = rest.split(b" ", 7)
            if sub[:1] == b"S":
                nested.append(path)
            else:
                changes.append(Change(path, "" if m_tree == b"000000" else m_tree.decode()))
        elif kind == b"u":
            unmerged.append(rest.split(b" ", 9)[9])
        elif kind == b"?":
            if rest.endswith(b"/"):
                nested.append(rest)
            else:
                changes.append(Change(rest, "100644", is_untracked=True))
    return Status(head, branch, tuple(changes), tuple(unmerged), tuple(nested))


def is_like_secret(path: str) -> bool:
    """Whether a file's name is one that usually holds credentials."""
    return _LIKE_SECRET.match(path.rpartition("/")[2]) is not None


def _mode_on_disk(root: Path, path: bytes) -> str:
    try:
        mode = os.lstat(os.path.join(os.fsencode(root), path)).st_mode  # noqa: PTH118 - names need not be UTF-8
    except FileNotFoundError:
        return ""
    return "120000" if stat.S_ISLNK(mode) else "100755" if mode & stat.S_IXUSR else "100644"
