"""How making an environment runs programs and speaks to the job's log: the port that the environment step answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tools(Protocol):
    """How the environment step runs programs and speaks to the job's log."""

    @property
    def scratch(self) -> Path:
        """A folder of this attempt that confined programs may write."""

    def run(self, words: list[str], *, env: Mapping[str, str], cwd: Path, confined: bool, writable: Path | None) -> int:
        """Run to the end, output to the job's log; the exit code. Raises when the attempt must stop."""

    def read(self, words: list[str], *, env: Mapping[str, str], cwd: Path) -> tuple[int, bytes]:
        """The same, confined, answering the output instead of logging it."""

    @property
    def shares_files(self) -> bool:
        """Whether jobs cannot write what belongs to the runner, so that files may be linked instead of copied."""

    def lend(self, folder: Path) -> None:
        """Let confined programs own this folder."""

    def seal(self, folder: Path) -> None:
        """Take it back: nobody but the runner may write it."""

    def say(self, text: str) -> None: ...

    def check(self) -> None:
        """Raises when the attempt must stop."""
