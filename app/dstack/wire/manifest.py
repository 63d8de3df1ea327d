"""The manifest of an artifact: its files by path, mode, size and digest; the digest of the whole names the artifact.

The encoding is canonical (sorted by path bytes, compact JSON), so equal contents have equal digests on every machine.
Digests are lower-case hexadecimal SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from dstack.errors import Invalid

MAX_FILES = 1_000_000
MAX_MANIFEST_BYTES = 256 * 1024 * 1024
_MODES = frozenset({0o644, 0o755})


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One regular file (`digest` of its bytes, `mode` 0o644 or 0o755), or a symbolic link when `target` is given."""

    path: str
    size: int = 0
    digest: str = ""
    mode: int = 0o644
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of an artifact, paths relative to the checkout, sorted."""

    files: tuple[FileEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def encode(self) -> bytes:
        """The canonical bytes."""
        rows = [
            [f.path, f.target] if f.target is not None else [f.path, f.mode, f.size, f.digest]
            for f in sorted(self.files, key=lambda f: f.path.encode("utf-8", "surrogatepass"))
        ]
        return json.dumps({"v": 1, "files": rows}, ensure_ascii=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()


def decode_manifest(data: bytes) -> Manifest:
    """Read canonical bytes back. Raises Invalid for anything a runner of ours would not have written (B72, B75)."""
    try:
        document = json.loads(data)
        rows = document["files"]
        if document["v"] != 1 or not isinstance(rows, list):
            raise ValueError("unknown manifest version")
        if len(rows) > MAX_FILES:
            raise ValueError(f"more than {MAX_FILES} files")
        files = tuple(_entry(row) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Invalid(f"not an artifact manifest: {error}") from None
    paths = {entry.path for entry in files}
    if len(paths) != len(files):
        raise Invalid("not an artifact manifest: a path stands twice")
    for entry in files:
        check_path(entry.path)
        if entry.target is not None:
            check_link(entry.path, entry.target)
        if any("/".join(entry.path.split("/")[:n]) in paths for n in range(1, entry.path.count("/") + 1)):
            raise Invalid(f"not an artifact manifest: {entry.path!r} lies inside a file")
    manifest = Manifest(files)
    if manifest.encode() != data:
        raise Invalid("not an artifact manifest: the encoding is not canonical")
    return manifest


def _entry(row: object) -> FileEntry:
    match row:
        case [str(path), str(target)]:
            return FileEntry(path, target=target)
        case [str(path), int(mode), int(size), str(digest)] if mode in _MODES and size >= 0 and is_digest(digest):
            return FileEntry(path, size, digest, mode)
    raise ValueError("a file entry is malformed")


def is_digest(text: str) -> bool:
    """A lower-case hexadecimal SHA-256."""
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def check_path(path: str) -> None:
    """Refuse every path that could leave its folder or mean another on some machine (B72). Raises Invalid."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise Invalid(f"artifact path {path!r} is not valid UTF-8") from None
    parts = path.split("/")
    wrong = (
        "is empty" if not path
        else "is longer than 4096 bytes" if len(raw) > 4096
        else "has a backslash" if "\\" in path
        else "has control characters" if any(ord(c) < 32 or ord(c) == 127 for c in path)
        else "is percent-encoded" if any(bad in path.lower() for bad in ("%2e", "%2f", "%5c", "%25", "%00"))
        else "has a drive letter" if len(path) > 1 and path[1] == ":" and path[0].isalpha()
        else "has an empty, '.' or '..' part" if any(part in ("", ".", "..") for part in parts)
        else "has a part longer than 255 bytes" if any(len(part.encode()) > 255 for part in parts)
        else "has a part that ends with a dot or space" if any(part[-1] in ". " for part in parts)
        else "lies inside .git" if any(part.lower() == ".git" for part in parts)
        else ""
    )  # fmt: skip
    if wrong:
        raise Invalid(f"artifact path {path!r} {wrong}")


def check_link(path: str, target: str) -> None:
    """A symbolic link must stay inside the artifact's root. Raises Invalid.

    Steps up are allowed at the start of its target alone: after a name they could start from wherever another link
    leads, so that two links, each harmless, would lead outside together.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    names = [part for part in parts if part != ".."]
    ups = len(parts) - len(names)
    leaves = not target or target.startswith("/") or "\\" in target or "\0" in target or ups > path.count("/")
    if leaves or parts[ups:] != names:
        raise Invalid(f"artifact link {path!r} leaves its artifact")
