"""Gives every attempt a checkout of its own: a small repository that borrows its objects from the runner's mirror.

The mirror (one bare repository per repo and trust) fetches a commit only when it is missing. Finished attempts are
renamed into a trash and deleted when the runner idles: ext4 avoids inodes freed in the last minute, so deleting just
before a checkout makes that checkout many times slower. Nothing of a credential is ever written here.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from dstack.errors import GitFailed, Invalid
from dstack.git.run import git, git_result
from dstack.git.watch import git_watched
from dstack_runner import argv
from dstack_runner.session import check_attempt, short_key
from dstack_runner.turns import Turns

log = logging.getLogger(__name__)
FETCH_LIMIT_S = 3600.0
KNOWN_COMMITS = 4096
TRASH_MAX = 400
_UNTIDY = 2000  # loose objects in a mirror from which on it is packed
_PACK_WEIGHT = 40  # a pack counts as much: git looks into each of them
_HEX = frozenset("0123456789abcdef")


class Workspaces:
    """Mirrors under `root/mirrors`, attempts under `root/attempts`, what is to be deleted under `root/trash`."""

    def __init__(self, root: Path) -> None:
        self._mirrors = root / "mirrors"
        self._attempts = root / "attempts"
        self._trash = root / "trash"
        for folder in (self._mirrors, self._attempts, self._trash):
            folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._guard = threading.Lock()
        self._turns = Turns()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._discarded = 0

    def attempt_folder(self, attempt: str) -> Path:
        """A fresh folder for everything of one attempt."""
        folder = self._attempts / check_attempt(attempt)
        if folder.exists():
            self.discard(attempt)  # an earlier process left it
        folder.mkdir(mode=0o711)
        return folder

    def mirror(self, repo: str, trusted: bool) -> Path:
        """Where the objects of a repo are kept; a fork's untrusted commits have a mirror of their own."""
        return self._mirrors / f"{short_key(repo, 'trusted' if trusted else 'untrusted')}.git"

    def fetch(
        self, mirror: Path, url: str, token: str, sha: str, branch: str, check: Callable[[], None] = lambda: None
    ) -> bool:
        """Make sure the mirror has the commit; whether it had to be fetched. Raises GitFailed, Invalid, and what
        `check` raises: it is asked all the time, and ends a fetch under way or the wait for another's."""
        check_sha(sha)
        with self._turns.of(mirror.name, check):
            if self._has(mirror, sha):
                return False
            if not (mirror / "objects").is_dir():
                _make_mirror(mirror, sha)
            git_watched(
                argv.git_fetch(url, sha, f"refs/fetched/{short_key(branch)}"),
                cwd=mirror,
                env=argv.clone_credential(url, token),
                check=_within(FETCH_LIMIT_S, check),
            )
            if not self._has(mirror, sha):
                raise GitFailed(f"the server sent no commit {sha}")
            return True

    def fill(self, checkout: Path, mirror: Path, sha: str) -> None:
        """Write the files of the commit into the new folder `checkout`, which becomes its own repository."""
        inner = checkout / ".git"
        (inner / "objects" / "info").mkdir(parents=True)
        (inner / "refs" / "heads").mkdir(parents=True)
        (inner / "info").mkdir()
        for name, text in argv.git_files(check_sha(sha)).items():
            (inner / name).write_text(text)
        (inner / "objects" / "info" / "alternates").write_text(f"{mirror / 'objects'}\n")
        git(argv.git_fill(sha), cwd=checkout, env={"GIT_DIR": str(inner), "GIT_WORK_TREE": str(checkout)})

    def discard(self, attempt: str) -> None:
        """Move an attempt's folder out of the way; it is deleted later."""
        folder = self._attempts / check_attempt(attempt)
        with self._guard:
            self._discarded += 1
            number = self._discarded
        try:
            folder.rename(self._trash / f"{attempt}.{time.time_ns()}.{number}")
        except FileNotFoundError:
            pass  # it never came to a folder

    def discard_all(self) -> None:
        """At start: what an earlier process left."""
        for folder in self._attempts.iterdir():
            self.discard(folder.name)

    def trash_size(self) -> int:
        return sum(1 for _ in os.scandir(self._trash))

    def empty_trash(self, go_on: Callable[[], bool]) -> int:
        """Delete what was discarded while `go_on` says so; how many folders went."""
        count = 0
        for folder in sorted(self._trash.iterdir()):
            if not go_on():
                break
            try:
                remove_tree(folder)
            except OSError as error:
                log.warning("%s cannot be deleted: %s", folder, error)  # the others can
                continue
            count += 1
        return count

    def pack_mirrors(self, go_on: Callable[[], bool]) -> int:
        """Put the many small packs and loose objects that fetches leave into one pack; how many mirrors needed it.

        Nothing is thrown away: an attempt may stand on a commit that no ref holds any more. Fetches may go on.
        """
        count = 0
        for mirror in sorted(self._mirrors.glob("*.git")):
            if not go_on():
                break
            try:
                count += _pack(mirror)
            except GitFailed as error:
                log.warning("%s cannot be packed: %s", mirror, error.message)  # the others can
        return count

    def _has(self, mirror: Path, sha: str) -> bool:
        key = (mirror.name, sha)
        with self._guard:
            if key in self._known:
                self._known.move_to_end(key)
                return True
        if not (mirror / "objects").is_dir() or git_result(argv.git_has(sha), cwd=mirror)[0] != 0:
            return False
        with self._guard:
            self._known[key] = None
            if len(self._known) > KNOWN_COMMITS:
                self._known.popitem(last=False)
        return True


def _within(limit_s: float, check: Callable[[], None]) -> Callable[[], None]:
    """`check` that also raises GitFailed once the time is over."""
    deadline = time.monotonic() + limit_s

    def both() -> None:
        check()
        if time.monotonic() > deadline:
            raise GitFailed(f"the fetch was not done within {limit_s:.0f} s")

    return both


def check_sha(sha: str) -> str:
    if len(sha) not in (40, 64) or not set(sha) <= _HEX:
        raise Invalid(f"{sha!r} is not a commit id", "it has 40 or 64 lower-case hexadecimal digits")
    return sha


def _make_mirror(mirror: Path, sha: str) -> None:
    shutil.rmtree(mirror, ignore_errors=True)  # an interrupted start of it
    fresh = mirror.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    form = "sha256" if len(sha) == 64 else "sha1"
    git(["init", "--quiet", "--bare", f"--object-format={form}", "--template=", "--", str(fresh)], cwd=mirror.parent)
    fresh.rename(mirror)


def _pack(mirror: Path) -> bool:
    """Whether it was worth it."""
    told = dict(line.split(": ") for line in git(argv.git_count(), cwd=mirror).decode().splitlines())
    if int(told["count"]) + _PACK_WEIGHT * int(told["packs"]) < _UNTIDY:
        return False
    for _ in range(2 if told["packs"] == "0" else 1):  # git takes in what no ref reaches once there is a pack
        git(argv.git_pack(), cwd=mirror)
    return True


def give(folder: Path, uid: int, gid: int) -> None:
    """Hand a folder with all below it to a user. Nothing of that user may run yet, or links could be swapped in."""
    os.chown(folder, uid, gid, follow_symlinks=False)
    for _, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)


def remove_tree(folder: Path) -> None:
    """Delete a folder that hostile code has filled: closed folders are opened, links are not followed, any depth."""
    if folder.is_symlink() or not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    try:
        _remove_shallow(folder)
    except RecursionError:  # Python's own functions go down a frame or two a folder
        for words in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*words, "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
        if folder.exists():
            raise OSError(errno.ENOTEMPTY, "cannot be deleted", str(folder)) from None


def _remove_shallow(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except PermissionError:
        _open_up(folder)
        shutil.rmtree(folder)


def _open_up(folder: Path) -> None:
    folder.chmod(stat.S_IRWXU)
    for path, folders, _ in os.walk(folder):
        for name in folders:
            inner = Path(path, name)
            if not inner.is_symlink():
                inner.chmod(stat.S_IRWXU)
