"""Fills the bare repositories of `LocalGit` from a forge: fetches with a token of the moment, bounded in time and size.

Only the forge's own address is ever dialled, and no redirect followed. The token travels in the environment, and no
message has it. A fetch changes branches and Git tags, and never a ref that is ours (refs/dstack, refs/notes).
"""

from __future__ import annotations

import logging
import os
import re
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dstack.errors import ForgeDown, GitFailed, Invalid, TooLarge, Unavailable
from dstack.git.names import check_ref, check_sha, check_url
from dstack.git.pushes import NOTES_REF
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.turns import Turns

log = logging.getLogger(__name__)

MAX_BYTES = 20 * 1024**3  # of one fetch, packed
FORK_BYTES = 1024**3  # of what a fork adds to the repository
TIMEOUT_S = 3600.0
LOOK_S = 0.1
_LEFT_OVER = 64 * 1024**2  # a broken-off pack of this size is taken away at once; git collects small ones in a day
_ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_TOLERATED = ("zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate", "missingEmail")  # as for pushes to us

# What git says when it is not the repository's fault: tried again, it may work.
_TROUBLE = re.compile(
    r"could not resolve|failed to connect|couldn't connect|connection (?:refused|reset|timed out|was)|timed out|"
    r"returned error: (?:408|429|5\d\d)|rpc failed|early eof|hung up|unexpected disconnect|empty reply|recv failure|"
    r"send failure|operation too slow|gnutls|ssl_|http/2 stream|transfer closed",
    re.IGNORECASE,
)

# What git says when objects are missing here.
_TORN = re.compile(
    r"(?:could not read|unable to (?:read|find)) [0-9a-f]{40}|did not receive expected|bad object|necessary objects|"
    r"missing (?:blob|tree|commit)",
    re.IGNORECASE,
)


class Mirrors:
    """`url` is the forge's address. Calls for one repository are for whoever holds `alone`."""

    def __init__(self, git: LocalGit, url: str, *, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S) -> None:
        self._git, self._url = git, url.rstrip("/")
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._turns = Turns[str]()

    def alone(self, repo_id: str) -> AbstractContextManager[None]:
        """One fetch at a time per repository: who waited finds what the other one brought."""
        return self._turns.of(repo_id)

    def fetch_branches(self, repo_id: str, address: str, token: str, branch: str = "") -> None:
        """All branches and Git tags as they are there now; those gone there go here. With `branch` this one alone, if
        it can be had alone: it may be gone there, or be in the way of one that is gone.

        Raises GitFailed, ForgeDown when asking again may help, TooLarge.
        """
        if branch:
            ref = f"refs/heads/{check_ref(branch)}"
            try:
                self._fetch(repo_id, address, token, (f"+{ref}:{ref}",))
                return
            except GitFailed:
                log.info("%s is fetched whole: not with %s alone", address, branch, extra={"action": "mirror"})
        self._fetch(repo_id, address, token, _ALL, "--prune")

    def fetch_commit(self, repo_id: str, address: str, token: str, sha: str) -> None:
        """A commit by its id, wherever it stands there; nothing holds it here yet. Raises as `fetch_branches`."""
        self._fetch(repo_id, address, token, (check_sha(sha),))

    def fetch_pull(self, repo_id: str, address: str, token: str, number: int, sha: str) -> None:
        """The head of a pull request of the repository itself, at `sha` even if it has moved on since."""
        self._fetch_head(repo_id, address, token, number, sha)

    def fetch_fork_pull(self, repo_id: str, number: int, address: str, token: str, sha: str) -> str:
        """The same for a fork's: into a repository of its own, which borrows what the repo has. So nothing of a
        stranger's ever stands among the repo's objects, and all of it goes with one folder. The id of that one."""
        fork = fork_id(repo_id, number)
        self._borrow(fork, repo_id)
        try:
            self._fetch_head(fork, address, token, number, sha)
        except GitFailed as error:
            if not _TORN.search(error.message):
                raise
            # What it borrowed was collected since (a forced push on the base): its earlier commits need that too.
            self._fetch_head(fork, address, token, number, sha, "--refetch")
        return fork

    def push_notes(self, repo_id: str, address: str, token: str) -> None:
        """Our notes replace those there; nothing else is sent. Raises GitFailed, and ForgeDown."""
        ref = f"+{NOTES_REF}:{NOTES_REF}"
        watch = FetchWatch(self._git.path(repo_id) / "objects" / "pack", self._max_bytes, self._timeout_s, address)
        with _told(address, token, "pushed to"):
            self._git.transfer(
                repo_id,
                ["push", "--quiet", "--no-verify", "--", self._checked(address), ref],
                settings=_settings(address, token),
                check=watch,
            )

    def _fetch_head(self, repo_id: str, address: str, token: str, number: int, sha: str, *options: str) -> None:
        ref = f"refs/pull/{int(number)}/head"
        self._fetch(repo_id, address, token, (f"+{ref}:{ref}",), *options)
        if not self._git.has_commit(repo_id, sha):
            self._fetch(repo_id, address, token, (check_sha(sha),), *options)

    def _fetch(self, repo_id: str, address: str, token: str, refspecs: Sequence[str], *options: str) -> None:
        argv = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-auto-gc"]
        packs = self._git.path(repo_id) / "objects" / "pack"
        # Of a fork only what it adds comes in, and whoever opens a pull request has that fetched before anybody looks.
        most = min(self._max_bytes, FORK_BYTES) if is_fork_id(repo_id) and not options else self._max_bytes
        watch = FetchWatch(packs, most, self._timeout_s, address)
        try:
            with _told(address, token):
                self._git.transfer(
                    repo_id,
                    [*argv, *options, "--", self._checked(address), *refspecs],
                    settings=_settings(address, token),
                    check=watch,
                )
        except BaseException:
            watch.clear_up()
            raise

    def _checked(self, address: str) -> str:
        """The admin has chosen the forge, so it may be at a private address; nothing else is dialled."""
        if not address.startswith(f"{self._url}/"):
            raise Invalid(f"{address} is not an address of {self._url}")
        return check_url(address)

    def _borrow(self, fork: str, repo_id: str) -> None:
        """By the way from one folder to the other, so that both may be moved together."""
        path, borrowed = self._git.create(fork), self._git.path(repo_id) / "objects"
        listed, way = path / "objects" / "info" / "alternates", f"{os.path.relpath(borrowed, path / 'objects')}\n"
        if not listed.is_file() or listed.read_text() != way:
            listed.parent.mkdir(exist_ok=True)
            fresh = listed.with_suffix(".new")
            fresh.write_text(way)
            fresh.replace(listed)


def fork_id(repo_id: str, number: int) -> str:
    """The bare repository that holds a fork's pull request."""
    return f"{repo_id}-pull-{int(number)}"


def is_fork_id(repo_id: str) -> bool:
    return "-pull-" in repo_id


class FetchWatch:
    """Called while git fetches: ends it when it takes too long, or more than fits."""

    def __init__(self, packs: Path, max_bytes: int, timeout_s: float, address: str) -> None:
        self._packs, self._max_bytes, self._address = packs, max_bytes, address
        self._before = set(packs.glob("tmp_pack_*"))
        self._until = time.monotonic() + timeout_s
        self._next_look = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._until:
            raise ForgeDown(f"{self._address} did not send everything in time", "it is tried again")
        if now < self._next_look:
            return
        self._next_look = now + LOOK_S
        if sum(size for _, size in self._incoming()) > self._max_bytes:
            raise TooLarge(
                f"{self._address} has more than {self._max_bytes} bytes", "keep large files out of the repository"
            )

    def clear_up(self) -> None:
        """Take away what a fetch that was ended has left."""
        for path, size in self._incoming():
            if size >= min(_LEFT_OVER, self._max_bytes):
                path.unlink(missing_ok=True)

    def _incoming(self) -> Iterator[tuple[Path, int]]:
        for path in set(self._packs.glob("tmp_pack_*")) - self._before:
            try:
                yield path, path.stat().st_size
            except FileNotFoundError:  # it has just got its lasting name
                continue


def _settings(address: str, token: str) -> list[tuple[str, str]]:
    """For one fetch. Packs stay packs: of loose objects half might be here after a crash, the commit among them."""
    parts, ca_file = urlsplit(address), os.environ.get("SSL_CERT_FILE", "")
    basic = b64encode(f"x-access-token:{token}".encode()).decode()
    return [
        (f"http.{parts.scheme}://{parts.netloc}/.extraHeader", f"Authorization: Basic {basic}"),
        ("http.followRedirects", "false"),
        ("http.lowSpeedLimit", "1000"),
        ("http.lowSpeedTime", "60"),
        ("credential.helper", ""),
        ("fetch.fsckObjects", "true"),
        ("fetch.unpackLimit", "1"),
        *([("http.sslCAInfo", ca_file)] if ca_file else []),  # as for our own calls
        *((f"fetch.fsck.{problem}", "ignore") for problem in _TOLERATED),
    ]


@contextmanager
def _told(address: str, token: str, what: str = "fetched from") -> Iterator[None]:
    """What git says, without the token, and as ForgeDown where trying again may help."""
    try:
        yield
    except GitFailed as error:
        said = error.message.replace(token, "...") if token else error.message
        if "no space left" in said.lower():
            raise Unavailable("the disk is full", "free some space; nothing was changed") from None
        if _TROUBLE.search(said):
            raise ForgeDown(f"{address} cannot be {what}: {said}", "it is tried again") from None
        raise GitFailed(f"{address} cannot be {what}: {said}", _hint(said)) from None


def _hint(said: str) -> str:
    if "not our ref" in said:
        return "the commit is gone there: it was replaced by a forced push"
    if "redirect" in said.lower():
        return "the repository has another name now; the next event of it tells which"
    if "Authentication failed" in said or "returned error: 40" in said or "not found" in said.lower():
        return "is the App still installed there, with `contents: read`?"
    return ""
