"""Runs one git command and tells what it says while it runs: for transfers that a person watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path

from dstack.errors import GitFailed
from dstack.git.run import _argv, _command_runner, _git_present, _verb, git_environment

_TAIL = 2000
_LINE_END = re.compile(rb"[\r\n]")


def git_watched(
    args: Sequence[str],
    *,
    cwd: Path | str,
    tell: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    own_config: bool = True,
) -> None:
    """Run `git ARGS`; `tell` gets every line of standard error as it comes, progress lines too. Standard output is
    dropped. Raises GitFailed with the last lines git wrote."""
    environment = git_environment(env, own_config=own_config)
    with _git_present():
        running = _command_runner(cwd).execute(_argv(args, environment), as_process=True, env=environment)
    process = running.proc
    assert process is not None and process.stdout is not None and isinstance(process.stderr, BufferedReader)
    said, rest = b"", b""
    try:
        while data := process.stderr.read1(65536):
            said = (said + data)[-_TAIL:]
            *lines, rest = _LINE_END.split(rest + data)
            for line in filter(None, lines):
                tell(line.decode(errors="replace"))
        code = process.wait()
    finally:
        process.stdout.close()
        process.stderr.close()
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code:
        raise GitFailed(f"git {_verb(args)} failed: {said.decode(errors='replace').strip() or f'exit code {code}'}")
