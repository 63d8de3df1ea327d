"""Chooses how this machine executes jobs: isolated if a real trial succeeds, else as the runner's own user."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dstack.errors import DstackError
from dstack_runner.cgroup import Cgroups
from dstack_runner.executors.base import Launch
from dstack_runner.executors.process import ProcessExecutor
from dstack_runner.users import UserPool

_TRIAL_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The executor of this machine; with `users` when jobs are isolated, else with the reason in words."""

    executor: ProcessExecutor
    users: UserPool | None
    why_not: str = ""


def choose(
    records: Path, *, hidden: Sequence[Path] = (), uids: Sequence[int] | None = None, isolate: bool = True
) -> Choice:
    """Try isolation once for real: rights, seccomp filters and security modules decide, and none can be asked.

    `records` and `hidden` are those of `ProcessExecutor`; `uids` None is the default range.
    `isolate` False does not even try.
    """
    cgroups = Cgroups.find()
    plain = ProcessExecutor(records, cgroups=cgroups, hidden=hidden)
    if not isolate:
        return Choice(plain, None, "isolation is turned off")
    if os.geteuid() != 0:
        return Choice(plain, None, "the runner does not run as root")
    isolating = ProcessExecutor(records, cgroups=cgroups, hidden=hidden, isolates=True)
    try:
        users = UserPool(uids) if uids is not None else UserPool()
        why_not = _trial(isolating, users)
    except (DstackError, OSError) as error:
        why_not = str(error)
    return Choice(plain, None, why_not) if why_not else Choice(isolating, users)


def _trial(executor: ProcessExecutor, users: UserPool) -> str:
    """Run `id -u` as a job would be run. Empty when all went well, else what did not."""
    with users.lent() as user, tempfile.TemporaryFile() as output:
        launch = Launch(("/bin/sh", "-c", "id -u"), {"PATH": os.defpath}, Path("/"), "trial", user)
        running = executor.start(launch, output.fileno())
        end = running.wait(_TRIAL_LIMIT_S)
        if end is None:
            running.kill()
            running.wait()
            return f"a trial job did not end within {_TRIAL_LIMIT_S:.0f} s"
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    return "" if end.is_success and said == str(user.uid) else f"a trial job answered {said!r} and exit code {end.code}"
