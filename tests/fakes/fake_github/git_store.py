"""Git work on the fake's bare repositories: make commits and forks, compare, list. Nothing here knows GitHub."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ZEROS = "0" * 40
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_ENV = {
    **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "gc.auto",
    "GIT_CONFIG_VALUE_1": "0",
    "GIT_CONFIG_KEY_2": "core.quotePath",
    "GIT_CONFIG_VALUE_2": "false",
    "LC_ALL": "C.UTF-8",
}
Files = Mapping[str, str | bytes | None]


class GitError(Exception):
    """git said no; the text is what it wrote."""


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """A commit as REST and push payloads show it."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    authored: str  # ISO 8601 with zone
    committed: str
    message: str


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a diff; `status` in GitHub's words."""

    path: str
    status: str
    sha: str
    additions: int
    deletions: int
    previous: str | None = None


def git(repo: Path, *args: str, stdin: bytes | None = None, extra: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(["git", *args], cwd=repo, env={**_ENV, **(extra or {})}, input=stdin, capture_output=True)
    if done.returncode:
        raise GitError(f"git {args[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode(errors="replace").rstrip("\n")


def init(path: Path, default_branch: str = "main") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    git(path.parent, "init", "-q", "--bare", "--template=", f"--initial-branch={default_branch}", str(path))


def clone(source: Path, target: Path) -> None:
    git(source.parent, "clone", "-q", "--bare", "--template=", str(source), str(target))


def commit(
    repo: Path, branch: str, files: Files, message: str, *, author: Person, at: float, parent: str | None = None
) -> str:
    """Put a commit on a branch: its parent's files, with these written (None: removed). Moves the branch, by force
    when `parent` is not its head; an empty `parent` makes a root commit."""
    ref = f"refs/heads/{branch}"
    start = resolve(repo, ref) if parent is None else parent
    stream = bytearray()
    mark = 0
    moves = []
    for path, content in files.items():
        if content is None:
            moves.append(f"D {_quoted(path)}\n")
            continue
        data = content.encode() if isinstance(content, str) else content
        mark += 1
        stream += f"blob\nmark :{mark}\ndata {len(data)}\n".encode() + data + b"\n"
        moves.append(f"M {'100755' if path.endswith('.sh') else '100644'} :{mark} {_quoted(path)}\n")
    who = f"{author.name} <{author.email}> {int(at)} +0000"
    text = message.encode()
    if not start:
        stream += f"reset {ref}\n\n".encode()
    stream += f"commit {ref}\nauthor {who}\ncommitter {who}\ndata {len(text)}\n".encode() + text + b"\n"
    if start:
        stream += f"from {start}\n".encode()
    stream += "".join(moves).encode()
    git(repo, "fast-import", "--quiet", "--force", stdin=bytes(stream))
    return git(repo, "rev-parse", ref)


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def merge(repo: Path, base: str, head: str, message: str, *, author: Person, at: float) -> str:
    """A merge commit of two commits (no ref moves). Raises GitError when they conflict."""
    tree = git(repo, "merge-tree", "--write-tree", base, head).splitlines()[0]
    return commit_tree(repo, tree, (base, head), message, author=author, at=at)


def commit_tree(repo: Path, tree: str, parents: tuple[str, ...], message: str, *, author: Person, at: float) -> str:
    date = f"{int(at)} +0000"
    identity = {
        "GIT_AUTHOR_NAME": author.name, "GIT_AUTHOR_EMAIL": author.email, "GIT_AUTHOR_DATE": date,
        "GIT_COMMITTER_NAME": author.name, "GIT_COMMITTER_EMAIL": author.email, "GIT_COMMITTER_DATE": date,
    }  # fmt: skip
    above = [word for parent in parents for word in ("-p", parent)]
    return git(repo, "commit-tree", tree, *above, "-m", message, extra=identity)


def resolve(repo: Path, name: str) -> str | None:
    """The commit a ref, a branch or an id names; None when there is none."""
    if name.startswith("-") or any(bad in name for bad in ("..", "@{", "^", ":", " ")):
        return None
    for tried in (name, f"refs/{name}"):
        try:
            return git(repo, "rev-parse", "-q", "--verify", "--end-of-options", f"{tried}^{{commit}}").split("\n")[-1]
        except GitError:
            continue
    return None


def refs(repo: Path, prefix: str = "refs/") -> dict[str, str]:
    """Full ref names that begin with `prefix`, and the objects they name."""
    lines = git(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    pairs = (line.split(" ") for line in lines)
    return {name: sha for name, sha in pairs if name.startswith(prefix)}


def set_ref(repo: Path, ref: str, sha: str) -> None:
    git(repo, "update-ref", "--no-deref", ref, sha)


def delete_ref(repo: Path, ref: str) -> None:
    git(repo, "update-ref", "--no-deref", "-d", ref)


def fetch(repo: Path, source: Path, what: str, into: str) -> None:
    git(repo, "fetch", "-q", "--no-tags", str(source), f"+{what}:{into}")


def is_ancestor(repo: Path, older: str, newer: str) -> bool:
    try:
        git(repo, "merge-base", "--is-ancestor", older, newer)
    except GitError:
        return False
    return True


def merge_base(repo: Path, one: str, other: str) -> str | None:
    try:
        return git(repo, "merge-base", one, other)
    except GitError:
        return None


def count(repo: Path, since: str, until: str) -> int:
    return int(git(repo, "rev-list", "--count", f"{since}..{until}"))


def log(repo: Path, *what: str, limit: int = 2048) -> list[CommitInfo]:
    """Commits, oldest first."""
    fields = "%H%x00%T%x00%P%x00%an%x00%ae%x00%cn%x00%ce%x00%aI%x00%cI%x00%B%x01"
    said = git(repo, "log", f"-n{limit}", "--topo-order", f"--format={fields}", *what)
    commits = []
    for block in said.split("\x01"):
        if not block.strip():
            continue
        sha, tree, parents, an, ae, cn, ce, at, ct, text = block.lstrip("\n").split("\0")
        commits.append(
            CommitInfo(sha, tree, tuple(parents.split()), Person(an, ae), Person(cn, ce), at, ct, text.rstrip("\n"))
        )
    return commits[::-1]


def show(repo: Path, sha: str) -> CommitInfo:
    return log(repo, sha, limit=1)[0]


def changed_names(repo: Path, sha: str) -> dict[str, list[str]]:
    """`added`, `removed`, `modified` of one commit against its first parent."""
    found: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
    words = {"A": "added", "D": "removed"}
    said = git(repo, "diff-tree", "-r", "--root", "--no-renames", "--no-commit-id", "-m", "--first-parent", "-z",
               "--name-status", sha).split("\0")  # fmt: skip
    for letter, path in zip(said[::2], said[1::2], strict=False):
        found[words.get(letter, "modified")].append(path)
    return found


def diff(repo: Path, old: str, new: str) -> list[FileChange]:
    """The files that differ between two commits."""
    raw = git(repo, "diff", "--raw", "--abbrev=40", "-M", old, new)
    counts = git(repo, "diff", "--numstat", "--no-renames", old, new)
    numbers = {}
    for line in counts.splitlines():
        added, gone, path = line.split("\t", 2)
        numbers[path] = (int(added) if added.isdigit() else 0, int(gone) if gone.isdigit() else 0)
    words = {"A": "added", "D": "removed", "M": "modified", "R": "renamed", "C": "copied", "T": "changed"}
    changes = []
    for line in raw.splitlines():
        meta, *paths = line.split("\t")
        parts = meta.split()
        plus, minus = numbers.get(paths[-1], (0, 0))
        sha = parts[2] if parts[3] == ZEROS else parts[3]
        previous = paths[0] if len(paths) > 1 else None
        changes.append(FileChange(paths[-1], words.get(parts[4][0], "changed"), sha, plus, minus, previous))
    return changes


def tree_entries(repo: Path, sha: str, path: str) -> list[tuple[str, str, str, int]]:
    """(type, object, path, size) of a folder's entries, or of one file."""
    wanted = path.strip("/")
    said = git(repo, "ls-tree", "-l", "-z", "--full-tree", sha, *([wanted] if wanted else []))
    if wanted and said.split(" ", 2)[1:2] == ["tree"]:
        said = git(repo, "ls-tree", "-l", "-z", "--full-tree", sha, wanted + "/")
    entries = []
    for line in said.split("\0"):
        if line:
            meta, name = line.split("\t", 1)
            _, kind, object_id, size = meta.split()
            entries.append((kind, object_id, name, int(size) if size.isdigit() else 0))
    return entries


def read_blob(repo: Path, object_id: str) -> bytes:
    return subprocess.run(["git", "cat-file", "blob", object_id], cwd=repo, env=_ENV, capture_output=True).stdout
