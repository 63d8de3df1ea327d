"""What a runner remembers on disk: its credential, the lock on its data folder, and the attempts it holds.

The records of live attempts let the next start report what this process could not (a kill, a power cut).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from dstack.errors import Conflict, Invalid

_ATTEMPT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def check_attempt(name: str) -> str:
    """An attempt's id becomes a folder name. Raises Invalid for anything that is not a plain word."""
    if not _ATTEMPT.fullmatch(name):
        raise Invalid(f"the server sent {name!r} as an attempt, which cannot name a folder")
    return name


@dataclass(frozen=True, slots=True)
class Credential:
    """What registration answered, and for which server and name it holds."""

    server: str
    id: str
    name: str
    token: str


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """An accepted attempt and its fencing token, written before its job can start."""

    attempt: str
    lease: str


class Session:
    """The runner's own folder. `open` takes it for this process alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: int | None = None

    def open(self) -> None:
        """Make the folder (its owner's alone) and lock it. Raises Conflict when another runner holds it."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.root / "live").mkdir(exist_ok=True, mode=0o700)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Conflict(
                f"another runner uses {self.root}",
                "stop it, or give this one its own folder with --data or DSTACK_RUNNER_DATA",
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def holder(self) -> int | None:
        """The process that runs on this folder now, or None."""
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode("ascii", "replace").strip()
            return int(text) if text.isdigit() else 0
        else:
            return None
        finally:
            os.close(descriptor)

    def credential(self, server: str, name: str) -> Credential | None:
        """The stored credential, when it was made for this server and name."""
        try:
            data = json.loads((self.root / "credential.json").read_bytes())
            found = Credential(**data)
        except (FileNotFoundError, ValueError, TypeError):
            return None  # absent or unreadable: registering again makes a new one
        return found if (found.server, found.name) == (server, name) else None

    def keep(self, credential: Credential) -> None:
        self._write("credential.json", asdict(credential))

    def forget(self) -> None:
        (self.root / "credential.json").unlink(missing_ok=True)

    def begin(self, record: LiveRecord) -> None:
        self._write(f"live/{check_attempt(record.attempt)}.json", asdict(record))

    def end(self, attempt: str) -> None:
        (self.root / "live" / f"{check_attempt(attempt)}.json").unlink(missing_ok=True)

    def left_over(self) -> tuple[LiveRecord, ...]:
        """The attempts an earlier process held when it died, oldest name first. A torn record is dropped."""
        found = []
        for path in sorted((self.root / "live").glob("*.json")):
            try:
                found.append(LiveRecord(**json.loads(path.read_bytes())))
            except (ValueError, TypeError):
                path.unlink(missing_ok=True)
        return tuple(found)

    def _write(self, name: str, data: dict[str, str]) -> None:
        path = self.root / name
        fresh = path.with_name(f".{path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(data, file)
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)  # the disk is full
            raise


def short_key(*parts: str) -> str:
    """A folder name for outside text (a repo, a branch): 24 hexadecimal digits; borders cannot be shifted."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:24]
