"""What a raw commit object says, and what `git cat-file --batch` answers; pure readers of git's own formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from dstack.errors import GitFailed, Malformed


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit. Times are seconds since the epoch, as the committer's clock had them."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: str
    author_email: str
    authored_at: int
    committed_at: int
    message: str

    @property
    def subject(self) -> str:
        """The first paragraph of the message, on one line."""
        return " ".join(self.message.strip().split("\n\n", 1)[0].split())


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of `cat-file --batch`: `kind` is blob, tree, commit, tag, or "" when there is no such object. `data`
    is None when the object is larger than the reader allowed: then nothing follows it."""

    kind: str
    sha: str = ""
    size: int = 0
    data: bytes | None = None


def read_commit(sha: str, data: bytes) -> Commit:
    """Read a raw commit. Odd ones are read as far as they go: other tools wrote them. Raises Malformed."""
    head, _, body = data.partition(b"\n\n")
    fields: dict[str, list[bytes]] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        if key:  # a line that starts with a space goes on with a signature
            fields.setdefault(key.decode("ascii", "replace"), []).append(value)
    if "tree" not in fields:
        raise Malformed(f"{sha} is not a commit")
    encoding = _last(fields, "encoding").decode("ascii", "replace") or "utf-8"
    name, email, authored_at = _person(_last(fields, "author"), encoding)
    return Commit(
        sha=sha,
        tree=_last(fields, "tree").decode("ascii", "replace"),
        parents=tuple(parent.decode("ascii", "replace") for parent in fields.get("parent", ())),
        author=name,
        author_email=email,
        authored_at=authored_at,
        committed_at=_person(_last(fields, "committer"), encoding)[2],
        message=_text(body, encoding),
    )


def tree_modes(data: bytes, id_bytes: int = 20) -> dict[str, str]:
    """Name -> mode of the entries of a raw tree object, `id_bytes` long ids (20, or 32 for SHA-256)."""
    modes, at = {}, 0
    while at < len(data):
        end = data.index(b"\0", at)
        mode, _, name = data[at:end].partition(b" ")
        modes[name.decode("utf-8", "surrogateescape")] = mode.decode("ascii")
        at = end + 1 + id_bytes
    return modes


def read_answers(stream: IO[bytes], count: int, max_bytes: int) -> Iterator[Answer]:
    """The first `count` answers on the output of `cat-file --batch`; the one over `max_bytes` is the last."""
    for _ in range(count):
        header = stream.readline()
        words = header.split()
        if not header.endswith(b"\n"):
            raise GitFailed("git cat-file ended before it had answered; the repository may be damaged")
        if len(words) < 3 or words[-1] in (b"missing", b"ambiguous") or not words[-1].isdigit():
            yield Answer("")
            continue
        sha, kind, size = words[-3].decode(), words[-2].decode(), int(words[-1])
        if size > max_bytes:
            yield Answer(kind, sha, size)
            return
        yield Answer(kind, sha, size, stream.read(size + 1)[:size])


def _last(fields: dict[str, list[bytes]], key: str) -> bytes:
    return fields.get(key, [b""])[-1]


def _person(value: bytes, encoding: str) -> tuple[str, str, int]:
    """`Name <email> seconds zone`; what cannot be read is empty or 0."""
    who, _, when = value.rpartition(b"> ")
    name, _, email = (who or value).partition(b"<")
    seconds = when.split(b" ")[0]
    return _text(name, encoding).strip(), _text(email, encoding).rstrip(">"), int(seconds) if seconds.isdigit() else 0


def _text(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (LookupError, UnicodeDecodeError):
        return data.decode("utf-8", "replace")
