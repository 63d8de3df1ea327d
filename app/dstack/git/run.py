"""Executes one git command with a clean environment and turns its failure into an error that says what git said.

Rules every caller keeps: outside text (branch names, paths, addresses) is never an option: it comes after
`--end-of-options` or `--`, or is checked by `names.py` first. Credentials travel in the environment, never in argv.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from dstack.errors import GitFailed

if TYPE_CHECKING:
    from git.cmd import Git

# What a user's own configuration must never do to our commands: run hooks or monitors, fetch by strange transports,
# prompt, sign, or check signatures with whatever program it names. The user's identity and credentials stay theirs:
# the CLI passes `own_config=False`.
_SAFE_CONFIG = (
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "protocol.ext.allow=never",
    "-c", "protocol.fd.allow=never",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "commit.gpgSign=false",
    "-c", "log.showSignature=false",
    "-c", "advice.detachedHead=false",
)  # fmt: skip

_CLEAN_ENV = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "https:http:file",
    "LC_ALL": "C.UTF-8",
}
_OWN_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_NO_REPLACE_OBJECTS": "1",  # refs/replace of a repository must not change what a commit is
}
_OLDEST_GIT = (2, 31)  # GIT_CONFIG_COUNT, which carries credentials and the settings of the git remote


def forget_inherited() -> None:
    """Drop every GIT_* variable this process was started with. Called once, first thing, by programs (`main`): a
    server started inside a git hook or alias would otherwise hand GIT_DIR to whatever it starts."""
    for name in _inherited():
        del os.environ[name]


def git_environment(extra: Mapping[str, str] | None = None, *, own_config: bool = True) -> dict[str, str]:
    """The environment of a git command: ours without any inherited GIT_*, plus `extra`.

    `own_config` shuts out the configuration of the machine and its user (server and runner); the CLI keeps it.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    return {**env, **_CLEAN_ENV, **(_OWN_ENV if own_config else {}), **(extra or {})}


def config_environment(settings: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Git settings as environment variables: they win over every file, and are not readable in the process list."""
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (key, value) in enumerate(settings):
        env[f"GIT_CONFIG_KEY_{number}"] = key
        env[f"GIT_CONFIG_VALUE_{number}"] = value
    return env


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
    environment = git_environment(env, own_config=own_config)
    with _input(stdin) as istream, _git_present():
        answer = _command_runner(cwd).execute(
            _argv(args, environment),
            istream=istream,
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
            kill_after_timeout=timeout_s,
            env=environment,
        )
    code, out, err = cast("tuple[int, bytes | str, bytes | str]", answer)
    return code, _bytes(out), _bytes(err)


@contextmanager
def git_stream(
    args: Sequence[str],
    *,
    cwd: Path | str,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    own_config: bool = True,
) -> Iterator[IO[bytes]]:
    """Run `git ARGS` and read its standard output as it comes: for answers too large to hold.

    Leaving the block early ends the command. For commands that write little to standard error, which is dropped."""
    environment = git_environment(env, own_config=own_config)
    with _input(stdin) as istream, _git_present():
        running = _command_runner(cwd).execute(
            _argv(args, environment), istream=istream, as_process=True, env=environment
        )
        process = running.proc
        assert process is not None and process.stdout is not None and process.stderr is not None
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            process.stderr.close()
            if process.poll() is None:
                process.terminate()
            process.wait()


def require_git() -> tuple[int, ...]:
    """The version of the git on PATH, as numbers. Raises GitFailed when there is none or it is too old."""
    words = git(["version"], cwd=tempfile.gettempdir()).decode().split()
    version = tuple(int(part) for part in words[2].split(".")[:3] if part.isdigit())
    if version < _OLDEST_GIT:
        oldest = ".".join(map(str, _OLDEST_GIT))
        raise GitFailed(f"git {words[2]} is too old", f"install git {oldest} or newer")
    return version


def _command_runner(cwd: Path | str) -> Git:
    try:
        from git.cmd import Git  # late: costs 100 ms, which commands that run no git do not pay
    except ModuleNotFoundError:
        raise
    except ImportError:  # GitPython looks for the program when it is loaded
        raise _no_git() from None
    return Git(str(cwd))


def _no_git() -> GitFailed:
    return GitFailed("git is not installed, or not on PATH", "install git and try again")


def _argv(args: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """GitPython adds our variables to the inherited ones, and an empty GIT_DIR is not the same as none: what was
    inherited is taken away by env(1), an extra millisecond which programs that called `forget_inherited` do not pay."""
    strangers = [name for name in _inherited() if name not in environment]
    unset = ["env", *(word for name in strangers for word in ("-u", name))] if strangers else []
    return [*unset, "git", *_SAFE_CONFIG, *args]


def _inherited() -> list[str]:
    return [name for name in os.environ if name.startswith("GIT_")]


@contextmanager
def _input(stdin: bytes | None) -> Iterator[BinaryIO | None]:
    """Standard input as a file: git may stop reading at any point without a broken pipe on our side."""
    if not stdin:
        yield None
        return
    with tempfile.TemporaryFile() as file:
        file.write(stdin)
        file.seek(0)
        yield cast(BinaryIO, file)


@contextmanager
def _git_present() -> Iterator[None]:
    try:
        yield
    except GitFailed:
        raise
    except Exception as error:
        from git.exc import GitCommandNotFound

        if isinstance(error, GitCommandNotFound):
            raise _no_git() from None
        raise


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
