"""Which entries of a commit may be read as configuration: plain files of a stated size, and nothing they lead to."""

from __future__ import annotations

from dstack.errors import GitFailed, Invalid
from dstack.git.commits import Answer

MAX_FILE_BYTES = 1024 * 1024

_PLAIN = frozenset({"100644", "100755", "100664"})  # the last is an old git's way to write the first
_WORDS = {"120000": "a symbolic link", "160000": "a submodule", "40000": "a folder", "040000": "a folder"}


def plain_file(path: str, sha: str, mode: str, answer: Answer) -> bytes:
    """The bytes of the file at `path`. Raises Invalid when it is something else, or larger than MAX_FILE_BYTES, and
    GitFailed when the commit has it and its bytes cannot be had."""
    if mode not in _PLAIN:
        raise Invalid(f"{path} at {sha[:12]} is {what_is(mode)}", f"make {path} a plain file")
    if not answer.kind:
        raise GitFailed(f"git cannot read {path} at {sha[:12]}; the repository may be damaged")
    if answer.data is None or answer.size > MAX_FILE_BYTES:
        raise Invalid(f"{path} at {sha[:12]} has {answer.size} bytes; {MAX_FILE_BYTES} is the limit")
    return answer.data


def what_is(mode: str) -> str:
    """The mode of a tree entry in words."""
    return _WORDS.get(mode, "a file")


def folder_of(path: str) -> str:
    """The folder a path lies in; "" for the root."""
    return path.rpartition("/")[0]


def folders_above(folder: str) -> list[str]:
    """A folder and those it lies in, outermost first; none for the root."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]
