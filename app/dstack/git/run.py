"""Executes one git command with a clean environment and turns its failure into an error that says what git said.

Rules every caller keeps: outside text (branch names, paths, addresses) is never an option: it comes after
`--end-of-options` or `--`, or is checked by `names.py` first. Credentials travel in the environment, never in argv.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from dstack.errors import GitFailed

# What a user's own configuration must never do to our commands: run hooks or monitors, fetch by strange transports,
# prompt, or sign. The user's identity and credentials stay theirs: the CLI passes `own_config=False`.
_SAFE_CONFIG = (
    "-c", "core.fsmonitor=false",
    "-c", "protocol.ext.allow=never",
    "-c", "protocol.fd.allow=never",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "commit.gpgSign=false",
    "-c", "advice.detachedHead=false",
)  # fmt: skip

_CLEAN_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:http:file",
    "LC_ALL": "C.UTF-8",
}
_OWN_ENV = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


def git_environment(extra: Mapping[str, str] | None = None, *, own_config: bool = True) -> dict[str, str]:
    """The environment of a git command: ours without any inherited GIT_*, plus `extra`.

    `own_config` shuts out the configuration of the machine and its user (server and runner); the CLI keeps it.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {**env, **_CLEAN_ENV, **(_OWN_ENV if own_config else {}), **(extra or {})}


def git(
    args: Sequence[str],
    *,
    cwd: Path | str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    own_config: bool = True,
    ok_codes: Sequence[int] = (0,),
    timeout_s: float | None = None,
) -> bytes:
    """Run `git ARGS` in `cwd` and return its standard output. Raises GitFailed with the last lines git wrote."""
    code, out, err = git_result(args, cwd=cwd, env=env, stdin=stdin, own_config=own_config, timeout_s=timeout_s)
    if code not in ok_codes:
        said = err.decode(errors="replace").strip() or f"exit code {code}"
        raise GitFailed(f"git {_verb(args)} failed: {said[-2000:]}")
    return out


def git_result(
    args: Sequence[str],
    *,
    cwd: Path | str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    own_config: bool = True,
    timeout_s: float | None = None,
) -> tuple[int, bytes, bytes]:
    """The same, answering (exit code, standard output, standard error) and raising nothing for a failed command."""
    from git.cmd import Git  # late: costs 100 ms, which commands that run no git do not pay

    with tempfile.TemporaryFile() as istream:
        istream.write(stdin or b"")
        istream.seek(0)
        code, out, err = Git(str(cwd)).execute(
            ["git", *_SAFE_CONFIG, *args],
            istream=istream,
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
            kill_after_timeout=timeout_s,
            env=git_environment(env, own_config=own_config),
        )
    return code, _bytes(out), _bytes(err)


def _bytes(data: bytes | str) -> bytes:
    return data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data


def _verb(args: Sequence[str]) -> str:
    words = iter(args)
    for word in words:
        if word in ("-c", "-C"):
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""
