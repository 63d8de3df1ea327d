"""The command lines a runner runs, as data: git for checkouts, uv for environments, bash for jobs. Runs nothing."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.job import Command

STALLED_S = 60


def git_has(sha: str) -> list[str]:
    """Answers 0 when the commit lies in the mirror with all it needs: a fetch that was cut short may have left the
    commit itself and not its files. What a ref reaches is whole, so only what goes beyond is looked through."""
    return ["rev-list", "--quiet", "--objects", f"{sha}^{{commit}}", "--not", "--all"]


def git_fetch(url: str, sha: str, ref: str) -> list[str]:
    """Fetch one commit with its history and remember it under `ref`, where the next fetch starts from.

    `--no-tags` and an exact commit also spare the server listing its refs.
    """
    return [
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--force",
        "--end-of-options", url, f"{sha}:{ref}",
    ]  # fmt: skip


def git_count() -> list[str]:
    """How many loose objects and packs there are, as lines `NAME: NUMBER`."""
    return ["count-objects", "-v"]


def git_pack() -> list[str]:
    """All objects into one pack, those that no ref reaches too."""
    return ["repack", "-a", "-d", "-k", "-q"]


def git_fill(sha: str) -> list[str]:
    """Write the index and all files of the commit: one process where `checkout` would do more to no avail.

    More than 100 files are written by a few processes at once (that is git's own threshold).
    """
    return [
        "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true", "-c", "checkout.workers=4",
        "read-tree", "-u", "--reset", sha,
    ]  # fmt: skip


def clone_credential(url: str, token: str) -> dict[str, str]:
    """The environment that lets git open `url`: never in argv, an address or a file. A transfer in which nothing moves
    is given up and tried again: half a connection would hold the job, and a stop of it, for an hour."""
    basic = b64encode(f"runner:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "5",
        "GIT_CONFIG_KEY_0": f"http.{url}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {basic}",
        "GIT_CONFIG_KEY_1": "http.followRedirects",
        "GIT_CONFIG_VALUE_1": "false",
        "GIT_CONFIG_KEY_2": "http.lowSpeedLimit",  # bytes a second; a server that thinks sends a sign of life every 5 s
        "GIT_CONFIG_VALUE_2": "1",
        "GIT_CONFIG_KEY_3": "http.lowSpeedTime",
        "GIT_CONFIG_VALUE_3": str(STALLED_S),
        "GIT_CONFIG_KEY_4": "protocol.version",  # the server reads what a job asks for, and knows this one alone
        "GIT_CONFIG_VALUE_4": "2",
    }


def git_files(sha: str) -> dict[str, str]:
    """The few files that make a folder a repository standing on `sha`, by their path under `.git`."""
    version, extension = (1, "[extensions]\n\tobjectFormat = sha256\n") if len(sha) == 64 else (0, "")
    config = (
        f"[core]\n\trepositoryFormatVersion = {version}\n\tfileMode = true\n\tbare = false\n"
        f"\tlogAllRefUpdates = true\n{extension}"
    )
    return {"HEAD": sha + "\n", "config": config, "info/exclude": ""}


def job_argv(command: Command) -> tuple[str, ...]:
    """How one step of a job is run. A shell step stops at its first failure, in a pipe too."""
    if command.argv:
        return command.argv
    if command.shell is None:
        raise Invalid("a command of this job has neither shell text nor argv")
    return ("bash", "-e", "-o", "pipefail", "-c", command.shell)


def uv_find(uv: str, version: str) -> list[str]:
    return [uv, "python", "find", "--no-project", "--no-config", "--no-python-downloads", "--", version]


def uv_export(uv: str, folder: Path) -> list[str]:
    """The lock of a project as requirement lines; reads files only."""
    return [
        uv, "export", "--quiet", "--frozen", "--no-dev", "--no-header", "--no-annotate", "--no-emit-project",
        "--no-python-downloads", "--format", "requirements-txt", "--project", str(folder),
    ]  # fmt: skip


def uv_compile(uv: str, python: str, sources: Sequence[str], output: Path) -> list[str]:
    """Resolve requirement files to exact versions."""
    return [
        uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-python-downloads", "--python", python,
        "--output-file", str(output), "--", *sources,
    ]  # fmt: skip


def uv_install(
    uv: str, python: Path, *, lock: Path | None = None, lines: Sequence[str] = (), build: bool, copy: bool
) -> list[str]:
    """Install exact versions (`lock`) or local folders (`lines`) into the environment of `python`, adding nothing.

    Without `build`, only wheels are taken: no code of a package runs.
    """
    argv = [uv, "pip", "install", "--no-deps", "--no-progress", "--no-python-downloads", "--python", str(python)]
    argv += ["--compile-bytecode"] if lock is not None else []
    argv += [] if build else ["--no-build"]
    argv += ["--link-mode", "copy"] if copy else []
    argv += ["-r", str(lock)] if lock is not None else []
    for line in lines:
        argv += ["-e", line[2:].strip()] if line.startswith("-e ") else [line]
    return argv


def git_tracked(sha: str) -> list[str]:
    """The paths of all files of a commit."""
    return ["ls-tree", "-r", "-z", "--name-only", "--full-tree", sha]
