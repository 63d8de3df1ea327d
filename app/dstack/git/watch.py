"""Runs one git command and attends to it while it runs: for transfers that a person watches, or that may be ended."""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from subprocess import Popen

from dstack.errors import GitFailed
from dstack.git.run import _argv, _command_runner, _git_present, _verb, git_environment

_TAIL = 2000
_LOOK_S = 0.1
_LINE_END = re.compile(rb"[\r\n]")


def git_watched(
    args: Sequence[str],
    *,
    cwd: Path | str,
    tell: Callable[[str], None] = lambda line: None,
    check: Callable[[], None] | None = None,
    env: Mapping[str, str] | None = None,
    own_config: bool = True,
) -> None:
    """Run `git ARGS`; `tell` gets every line of standard error as it comes, progress lines too. Standard output is
    dropped. `check` is called several times a second: what it raises ends git, with all that git started, and comes
    through. Raises GitFailed with the last lines git wrote."""
    environment = git_environment(env, own_config=own_config)
    with _git_present():
        running = _command_runner(cwd).execute(
            _argv(args, environment), as_process=True, env=environment,
            start_new_session=check is not None,  # a group of its own, which can be ended whole
        )  # fmt: skip
    process = running.proc
    assert process is not None and process.stdout is not None and isinstance(process.stderr, BufferedReader)
    said, rest = b"", b""
    try:
        while data := _read(process.stderr, check):
            said = (said + data)[-_TAIL:]
            *lines, rest = _LINE_END.split(rest + data)
            for line in filter(None, lines):
                tell(line.decode(errors="replace"))
        code = process.wait()
    finally:
        process.stdout.close()
        process.stderr.close()
        if process.poll() is None:
            _end(process, has_group=check is not None)
    if code:
        raise GitFailed(f"git {_verb(args)} failed: {said.decode(errors='replace').strip() or f'exit code {code}'}")


def _read(stream: BufferedReader, check: Callable[[], None] | None) -> bytes:
    if check is not None:
        check()
        while not select.select([stream], [], [], _LOOK_S)[0]:
            check()
    return stream.read1(65536)


def _end(process: Popen[bytes], *, has_group: bool) -> None:
    """TERM lets git take its half-written files away."""
    if has_group:
        os.killpg(process.pid, signal.SIGTERM)  # its process id is still taken: nobody has waited for it
    else:
        process.terminate()
    process.wait()
