"""Makes a commit of the working tree as it is, and sends it to the server, without touching anything of the user's.

Objects are written to a temporary folder that borrows from the repository's, with an index of our own: the user's
index, refs, reflogs, stash and objects keep every byte. Filters (LFS) and line-end rules stay off: what lies in the
folder is what the job gets.
"""

from __future__ import annotations

import os
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dstack.cli import quantities
from dstack.cli.progress import PushProgress
from dstack.cli.repository import Repository
from dstack.cli.status import Change, Status, is_like_secret, read_status
from dstack.errors import Conflict, GitFailed, Invalid, NotAllowed, NotSignedIn, TooLarge, Unreachable
from dstack.git.run import config_environment
from dstack.git.watch import git_watched

DEFAULT_MAX_BYTES = 200 * 1024 * 1024
LISTED = 5
WORK_REFS = "refs/dstack/work"
_WHO = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "dstack"), ("EMAIL", "dstack@localhost"))
}
# Attributes under which the bytes of a tracked file on disk may differ from those in its blob.
_CONVERTING = ("filter", "working-tree-encoding", "ident", "text", "eol")


class Shipment(NamedTuple):
    """What will run. `sha` is HEAD itself (`parent` empty) when the tree is as committed, else a hidden commit on
    `parent`. `env` is what git needs to see the hidden commit's objects."""

    sha: str
    parent: str
    branch: str
    changed: int
    sent_bytes: int
    secret_like: tuple[str, ...]
    env: dict[str, str]


@contextmanager
def pack_working_tree(repository: Repository, max_bytes: int = DEFAULT_MAX_BYTES) -> Iterator[Shipment]:
    """The working tree as a commit that exists while the block lasts.

    Raises Invalid or Conflict for a tree that cannot be shipped, TooLarge naming the largest files.
    """
    status = read_status(repository)
    _refuse_unshippable(status)
    with tempfile.TemporaryDirectory(prefix="dstack-work-") as folder:
        env = _borrowed_objects(repository, Path(folder))
        changes = [*status.changes, *_converted(repository, status)]
        sizes = _measure(repository.root, changes)
        _refuse_large(sizes, max_bytes)
        sha = _commit(repository, status, changes, env, Path(folder)) if changes else status.head
        own = sha == status.head
        yield Shipment(
            sha=sha,
            parent="" if own else status.head,
            branch=status.branch,
            changed=0 if own else len(changes),
            sent_bytes=0 if own else sum(sizes.values()),
            secret_like=tuple(
                _text(c.path) for c in status.changes if c.is_untracked and is_like_secret(_text(c.path))
            ),
            env=env,
        )


def push_shipment(repository: Repository, shipment: Shipment, url: str, token: str) -> None:
    """Send the commit to a hidden ref of the server's remote. The token travels in the environment, to that address
    alone. Raises NotSignedIn, NotAllowed, Unreachable or GitFailed."""
    settings = push_settings(url, token, os.environ.get("SSL_CERT_FILE", ""))
    env = {**shipment.env, **config_environment(settings), "GIT_ASKPASS": "true"}
    refspec = f"{shipment.sha}:{WORK_REFS}/{shipment.sha}"
    options = ["--no-verify", "--no-follow-tags", "--no-signed", "--recurse-submodules=no"]
    try:
        with PushProgress() as progress:
            shown = "--progress" if progress.is_shown else "--quiet"
            words = ["push", shown, *options, "--", url, refspec]
            git_watched(words, cwd=repository.root, tell=progress.tell, env=env, own_config=False)
    except GitFailed as error:
        raise _push_error(error, url) from None


def push_settings(url: str, token: str, ca_file: str) -> list[tuple[str, str]]:
    """Git settings for one push; pure. Empty values take back what the user's configuration has there."""
    basic = b64encode(f"dstack:{token}".encode()).decode()
    return [
        (f"http.{url}.extraHeader", ""),
        (f"http.{url}.extraHeader", f"Authorization: Basic {basic}"),
        ("http.followRedirects", "false"),
        ("credential.helper", ""),
        ("core.askPass", ""),
        ("push.pushOption", ""),
        *([("http.sslCAInfo", ca_file)] if ca_file else []),  # as for our own calls
    ]


def _refuse_unshippable(status: Status) -> None:
    if not status.head:
        raise Invalid(
            "this repository has no commit yet, and a run needs one to stand on",
            'Make one: git add . && git commit -m "start"',
        )
    if status.unmerged:
        raise Conflict(
            f"a merge is not finished: {_some(status.unmerged)}",
            "Resolve these files (git add them), or `git merge --abort`; then run again.",
        )
    if status.nested:
        raise Invalid(
            f"Git repositories inside this one cannot be shipped: {_some(status.nested)}",
            "Name them in .gitignore, or remove their .git; a changed submodule must be committed and pushed.",
        )


def _borrowed_objects(repository: Repository, folder: Path) -> dict[str, str]:
    (folder / "objects").mkdir()
    return {
        "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": c_quote(os.fsencode(repository.objects)).decode("utf-8", "surrogateescape"),
    }


def _converted(repository: Repository, status: Status) -> list[Change]:
    """Tracked files that git calls unchanged only after converting them (filter, line ends): their own bytes go out."""
    changed = {change.path for change in status.changes}
    tracked = {e.path: e for e in _index_entries(repository) if e.path not in changed}
    suspects = [tracked[path] for path in _converting_paths(repository, list(tracked)) if path in tracked]
    suspects = [entry for entry in suspects if _is_file(repository.root, entry.path)]
    if not suspects:
        return []
    base = os.fsencode(repository.root)
    lines = b"".join(c_quote(os.path.join(base, entry.path)) + b"\n" for entry in suspects)  # noqa: PTH118
    own = repository.git(["hash-object", "--no-filters", "--stdin-paths"], stdin=lines).decode().split()
    return [Change(e.path, e.mode) for e, blob in zip(suspects, own, strict=True) if blob != e.blob]


class _Entry(NamedTuple):
    path: bytes
    mode: str
    blob: str


def _index_entries(repository: Repository) -> Iterator[_Entry]:
    for line in repository.git(["ls-files", "-z", "--stage"]).split(b"\0"):
        facts, _, path = line.partition(b"\t")
        if facts.startswith(b"100"):
            mode, blob, _stage = facts.decode().split(" ")
            yield _Entry(path, mode, blob)


def _converting_paths(repository: Repository, paths: list[bytes]) -> list[bytes]:
    """Those whose attributes, or the user's core.autocrlf, make git convert their content."""
    if repository.config.get("core.autocrlf", "false").lower() not in ("false", "no", "off", "0"):
        return paths
    names = b"".join(path + b"\0" for path in paths)
    answer = repository.git(["check-attr", "-z", "--stdin", *_CONVERTING], stdin=names).split(b"\0")
    values = zip(answer[0::3], answer[2::3], strict=False)
    return list(dict.fromkeys(path for path, value in values if value not in (b"unspecified", b"unset")))


def _is_file(root: Path, path: bytes) -> bool:
    name = os.path.join(os.fsencode(root), path)  # noqa: PTH118 - paths are bytes here: names need not be UTF-8
    return os.path.isfile(name) and not os.path.islink(name)  # noqa: PTH113, PTH114


def _measure(root: Path, changes: Sequence[Change]) -> dict[bytes, int]:
    base = os.fsencode(root)
    try:
        return {c.path: os.lstat(os.path.join(base, c.path)).st_size for c in changes if c.mode}  # noqa: PTH118
    except FileNotFoundError as error:
        raise _moved(error) from None


def _refuse_large(sizes: dict[bytes, int], max_bytes: int) -> None:
    total = sum(sizes.values())
    if total <= max_bytes:
        return
    largest = sorted(sizes, key=lambda path: -sizes[path])[:LISTED]
    rows = "\n".join(f"  {quantities.size(sizes[path]):>9}  {_text(path)}" for path in largest)
    raise TooLarge(
        f"the changed and untracked files are {quantities.size(total)}, over the limit of {quantities.size(max_bytes)}",
        f"The largest:\n{rows}\nName what the job does not need in .gitignore, or raise it with --max-upload SIZE.",
    )


def _commit(
    repository: Repository, status: Status, changes: Sequence[Change], env: dict[str, str], folder: Path
) -> str:
    """Write blobs, tree and commit; HEAD's own id when the tree turns out to be HEAD's."""
    env = {**env, "GIT_INDEX_FILE": str(folder / "index")}
    repository.git(["read-tree", status.head], env=env)
    added = [change for change in changes if change.mode]
    blobs = _write_blobs(repository, added, env, folder)
    zeros = "0" * len(status.head)
    removals = b"".join(b"0 %s\t%s\0" % (zeros.encode(), c.path) for c in changes if not c.mode)
    additions = b"".join(b"%s %s\t%s\0" % (c.mode.encode(), blob, c.path) for c, blob in zip(added, blobs, strict=True))
    repository.git(["update-index", "-z", "--replace", "--index-info"], env=env, stdin=removals + additions)
    tree = repository.git(["write-tree"], env=env).strip().decode()
    head_tree, when = repository.git(["show", "-s", "--format=%T %ct", status.head]).decode().split()
    if tree == head_tree:
        return status.head
    # The time is the parent's, so that the same files on the same commit are the same commit, however often shipped.
    dates = {"GIT_AUTHOR_DATE": f"@{when} +0000", "GIT_COMMITTER_DATE": f"@{when} +0000"}
    message = f"Working tree on {status.branch or 'a detached HEAD'}\n".encode()
    made = repository.git(["commit-tree", tree, "-p", status.head], env={**env, **_WHO, **dates}, stdin=message)
    return made.strip().decode()


def _write_blobs(repository: Repository, changes: Sequence[Change], env: dict[str, str], folder: Path) -> list[bytes]:
    """Object ids of the files, in one call; a symbolic link is stored as the text it points to."""
    if not changes:
        return []
    base, lines = os.fsencode(repository.root), []
    for number, change in enumerate(changes):
        path = os.path.join(base, change.path)  # noqa: PTH118
        if change.mode == "120000":
            text = folder / f"link-{number}"
            try:
                text.write_bytes(os.readlink(path))  # noqa: PTH115
            except OSError as error:
                raise _moved(error) from None
            path = os.fsencode(text)
        lines.append(c_quote(path) + b"\n")
    try:
        out = repository.git(["hash-object", "-w", "--no-filters", "--stdin-paths"], env=env, stdin=b"".join(lines))
    except GitFailed as error:
        raise Conflict(error.message, "A file changed or is not readable; look, then run again.") from None
    return out.split()


def c_quote(path: bytes) -> bytes:
    """A path as git reads it from a list of lines: quoted only where it must be."""
    if not any(c < 32 or c in b'"\\' or c == 127 for c in path):
        return path
    return b'"' + b"".join(b"\\%03o" % c if c < 32 or c in b'"\\' or c == 127 else bytes([c]) for c in path) + b'"'


def _push_error(error: GitFailed, url: str) -> Exception:
    said = error.message
    if "Authentication failed" in said or "could not read Username" in said or "error: 401" in said:
        return NotSignedIn(f"{url} does not accept the token", "Set a valid one: `dstack config set token`.")
    if "error: 403" in said:
        return NotAllowed(f"this token may not push to {url}")
    if any(words in said for words in ("Could not resolve", "Failed to connect", "unable to access")):
        return Unreachable(f"no Git remote answers at {url}: {said.splitlines()[-1]}")
    return error


def _moved(error: OSError) -> Conflict:
    name = os.fsdecode(error.filename or "a file")
    return Conflict(f"{name} changed while it was read", "Run again when nothing writes to the working tree.")


def _some(paths: Sequence[bytes]) -> str:
    shown = ", ".join(_text(path) for path in paths[:LISTED])
    return shown + (f" and {len(paths) - LISTED} more" if len(paths) > LISTED else "")


def _text(path: bytes) -> str:
    return path.decode("utf-8", "replace")
