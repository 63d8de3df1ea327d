"""`git http-backend` as data: its environment for one request, and the settings under which it serves a repository.

Pure. The settings travel in the environment, so they hold whatever a repository's or a machine's files say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dstack.git.pushes import RUN_REFS
from dstack.git.run import config_environment, git_environment

UPLOAD, RECEIVE = "git-upload-pack", "git-receive-pack"

# The rest of the server's environment is kept back: a CONTENT_LENGTH in it would be believed, and it has secrets.
_INHERITED = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "LC_ALL")
_PROTOCOL = re.compile(r"[a-z0-9=:.-]{1,64}\Z")
# Old but harmless: repositories with a long history have such objects, and other hosts take them too.
_TOLERATED = ("zeroPaddedFilemode", "badTimezone", "missingSpaceBeforeDate", "missingEmail")


def serve_settings(repository: Path, hooks: Path, max_push_bytes: int) -> list[tuple[str, str]]:
    """Settings of a process that serves one repository.

    A commit is fetched by its id, wherever it stands; a job's token is held to its own (see `wants`). What a run keeps
    is hidden from both listings; `transfer.hideRefs` would do that too, but also refuse the pushes of working trees.
    """
    return [
        ("safe.directory", str(repository)),
        ("core.hooksPath", str(hooks)),
        ("core.fsync", "committed,loose-object"),
        ("core.fsmonitor", "false"),
        ("core.logAllRefUpdates", "false"),
        ("gc.auto", "0"),
        ("http.uploadpack", "true"),
        ("http.receivepack", "true"),
        ("http.getanyfile", "false"),
        ("uploadpack.hideRefs", "refs/dstack"),
        ("uploadpack.allowAnySHA1InWant", "true"),
        ("uploadpack.allowFilter", "true"),
        ("receive.hideRefs", RUN_REFS.rstrip("/")),
        ("receive.maxInputSize", str(max_push_bytes)),
        ("receive.autogc", "false"),
        ("receive.fsckObjects", "true"),
        *((f"receive.fsck.{problem}", "ignore") for problem in _TOLERATED),
    ]


def backend_environment(
    repository: Path,
    *,
    settings: list[tuple[str, str]],
    service: str,
    advertise: bool,
    user: str,
    headers: Mapping[str, str],
) -> dict[str, str]:
    """The CGI environment of one request (`headers` in lower case). No length is given even where it is known:
    http-backend then hands the body to git as it comes."""
    env = {
        "GIT_PROJECT_ROOT": str(repository.parent),
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": f"/{repository.name}/info/refs" if advertise else f"/{repository.name}/{service}",
        "REQUEST_METHOD": "GET" if advertise else "POST",
        "QUERY_STRING": f"service={service}" if advertise else "",
        "CONTENT_TYPE": headers.get("content-type", ""),
        "REMOTE_USER": user.replace("\0", ""),
    }
    if headers.get("content-encoding") in ("gzip", "x-gzip"):
        env["HTTP_CONTENT_ENCODING"] = "gzip"
    if _PROTOCOL.match(headers.get("git-protocol", "")):
        env["GIT_PROTOCOL"] = headers["git-protocol"]
    clean = git_environment({**env, **config_environment(settings)})
    kept = (*_INHERITED, *env)
    return {key: value for key, value in clean.items() if key.startswith("GIT_") or key in kept}


def read_head(head: bytes) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Status and headers of a CGI answer (everything before the empty line)."""
    status, headers = 200, []
    for line in head.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if key.lower() == b"status":
            status = int(value.split()[0])
        elif colon:
            headers.append((key.lower(), value.strip()))
    return status, headers
