"""The users that jobs run as: a range of ids without names, each lent to one attempt at a time on the whole machine.

Several runners may share a machine and even a range: an id is held by a lock on a file in one folder for all of them.
The file's content says whether its last holder left it clean; if not, the id is cleaned before it is lent again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path

from dstack.errors import DstackError, Invalid
from dstack_runner import processes, sweep
from dstack_runner.executors.base import JobUser

# Between the ranges that systemd and the distributions give to people, services and containers.
DEFAULT_UIDS = range(61000, 61064)
FOLDERS = (Path("/run/dstack/uids"), Path("/var/lib/dstack/uids"))
_OPEN_FOLDERS = tuple(map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue")))  # noqa: S108
_CLEAN, _DIRTY = b"clean", b"dirty"


class NoUserFree(DstackError):
    """Every id of the range is lent."""

    code = "no_user_free"


class UserPool:
    """Lends job users. One per runner; safe to use from several threads."""

    def __init__(self, uids: Sequence[int] = DEFAULT_UIDS, folder: Path | None = None) -> None:
        """`folder` holds the locks, the same for every runner of the machine. Raises OSError when it cannot be made."""
        self.uids = tuple(uid for uid in uids if not _has_name(uid))
        self.folder = folder or _first_folder()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def take(self) -> UserLease:
        """A user nobody else has, with no process and no file left of its earlier jobs. Raises NoUserFree."""
        lease = next(filter(None, map(self._try, self.uids)), None)
        if lease is None:
            raise NoUserFree(
                f"all {len(self.uids)} job users of this machine are in use",
                "give the runner a longer range by DSTACK_RUNNER_UIDS, or fewer slots",
            )
        lease.clean()
        return lease

    @contextlib.contextmanager
    def lent(self) -> Iterator[JobUser]:
        lease = self.take()
        try:
            yield lease.user
        finally:
            lease.release()

    def clean(self, uid: int) -> bool:
        """Kill and remove what is left of a user, unless somebody has it: then False, and nothing happens."""
        lease = self._try(uid)
        if lease is None:
            return False
        lease.clean()
        lease.release()
        return True

    def _try(self, uid: int) -> UserLease | None:
        descriptor = os.open(self.folder / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return UserLease(JobUser(uid, uid), descriptor)


class UserLease:
    """A job user while it is ours."""

    def __init__(self, user: JobUser, descriptor: int) -> None:
        self.user = user
        self._descriptor = descriptor
        self._released = False

    def clean(self) -> None:
        """Kill and remove what an earlier holder left that did not say "clean" (it crashed), and mark it used."""
        if os.pread(self._descriptor, 16, 0) != _CLEAN:
            sweep.kill(sweep.Strays(uid=self.user.uid))
            sweep.remove_files_of(self.user.uid, _OPEN_FOLDERS)
        os.pwrite(self._descriptor, _DIRTY, 0)

    def release(self, *, clean: bool = True) -> None:
        """Give the user back. Not `clean`, or if a process of it hangs in the kernel, the next holder cleans.
        Safe to repeat."""
        if self._released:
            return
        self._released = True
        if clean and not processes.has_any(self.user.uid):
            os.pwrite(self._descriptor, _CLEAN, 0)
        os.close(self._descriptor)


def parse_uids(text: str) -> range:
    """The range of a setting like `61000-61063`. Raises Invalid."""
    first, dash, last = text.partition("-")
    if not (first.strip().isdecimal() and (not dash or last.strip().isdecimal())):
        raise Invalid(f"DSTACK_RUNNER_UIDS: cannot read {text!r}", "write the first and the last id, as 61000-61063")
    uids = range(int(first), int(last or first) + 1)
    if not uids or uids[0] < 1000 or uids[-1] >= 2**32 - 2:
        raise Invalid(f"DSTACK_RUNNER_UIDS: {text!r} is no range of job users", "from 1000 on, the smaller id first")
    return uids


def _first_folder() -> Path:
    for folder in FOLDERS:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return folder
    return FOLDERS[-1]


def _has_name(uid: int) -> bool:
    """A person's or service's id is never lent to a job."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
