"""Makes the Python environment a job asks for; strangers' code in it runs as the job's user."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from dstack.wire.states import Reason
from dstack_runner.attempt import Attempt
from dstack_runner.environments import BuildFailed, Wanted
from dstack_runner.outcome import StepFailed
from dstack_runner.workspace import give

READ_LIMIT = 16 * 1024 * 1024
_NETWORK = re.compile(
    r"error sending request|dns error|connection (refused|reset|closed)|timed out|tls|temporary failure|50[0234] ", re.I
)
_DISK_FULL = re.compile(r"No space left on device|os error 28|Disk quota exceeded", re.I)


def run(attempt: Attempt) -> None:
    spec = attempt.order.job.python
    if spec is None:
        return
    environments = attempt.kit.environments
    attempt.reads = environments.tools_of(spec.version)
    tools = AttemptTools(attempt)
    env = {**attempt.base_env(), **attempt.order.env, **attempt.order.job.env, **attempt.order.secrets}
    order = attempt.order
    wanted = Wanted(attempt.places.checkout, order.job.working_dir, spec, order.repo, order.trusted, env)
    try:
        attempt.env = environments.provide(wanted, attempt.places.venv, tools)
    except BuildFailed as error:
        said = attempt.log.tail()
        if _DISK_FULL.search(said):
            raise StepFailed(
                "environment: the runner's disk is full", reason=Reason.DISK_FULL, machine_fault=True
            ) from error
        fault = bool(_NETWORK.search(said))
        raise StepFailed(error.message, error.hint, reason=Reason.ENVIRONMENT, machine_fault=fault) from error
    attempt.reads = attempt.env.reads
    attempt.own(attempt.places.venv)


class AttemptTools:
    """The programs of this step, run on behalf of one attempt."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._scratch = attempt.places.root / "scratch"
        self._scratch.mkdir(exist_ok=True)
        attempt.own(self._scratch)

    @property
    def scratch(self) -> Path:
        return self._scratch

    @property
    def shares_files(self) -> bool:
        """Whether jobs cannot write what belongs to the runner, so that files may be linked instead of copied."""
        return self._attempt.user is not None

    def run(self, words: list[str], *, env: Mapping[str, str], cwd: Path, confined: bool, writable: Path | None) -> int:
        folders = tuple(folder for folder in (self._scratch, writable) if folder is not None)
        ended = self._attempt.launch(
            tuple(words), self._env(env, confined), cwd, confined=confined, also_writable=folders
        )
        self._attempt.control.check()
        return ended.exit.shell_code

    def read(self, words: list[str], *, env: Mapping[str, str], cwd: Path) -> tuple[int, bytes]:
        answer = self._scratch / "answer"
        descriptor = os.open(answer, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            ended = self._attempt.launch(
                tuple(words), self._env(env, True), cwd, also_writable=(self._scratch,), output=file.fileno()
            )
            self._attempt.control.check()
            file.seek(0)
            said = file.read(READ_LIMIT)
        if ended.exit.shell_code != 0:
            self._attempt.log.write(said)
        return ended.exit.shell_code, said

    def lend(self, folder: Path) -> None:
        self._attempt.own(folder)

    def seal(self, folder: Path) -> None:
        if self._attempt.user is not None:
            give(folder, os.geteuid(), os.getegid())
        for path, _, files in os.walk(folder, topdown=False):
            for name in files:
                file = Path(path, name)
                if not file.is_symlink():
                    file.chmod(file.stat().st_mode & 0o555 | 0o444)
            Path(path).chmod(0o555)

    def say(self, text: str) -> None:
        self._attempt.log.say(text)

    def check(self) -> None:
        self._attempt.control.check()

    def _env(self, env: Mapping[str, str], confined: bool) -> dict[str, str]:
        base = self._attempt.base_env()
        home = {} if confined else {"HOME": "/nonexistent", "UV_NO_CONFIG": "1"}
        return {**base, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", **env, **home}
