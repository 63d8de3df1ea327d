"""The fake as a Git server: `git http-backend` over the bare repositories, behind the same tokens as REST."""

from __future__ import annotations

import os
import re
import subprocess

from fake_github import doors, git_store, moves
from fake_github.git_store import ZEROS
from fake_github.routing import Caller, Refusal
from fake_github.state import Repo
from fake_github.wire import Answer, Request, redirect
from fake_github.world import World

ADDRESS = re.compile(
    r"/(?P<owner>[^/]+)/(?P<name>[^/]+?)(?:\.git)?/(?P<what>info/refs|git-upload-pack|git-receive-pack)"
)
_SETTINGS = {
    "safe.directory": "*",
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
    "http.receivepack": "true",
    "receive.hideRefs": "refs/pull",
    "receive.autogc": "false",
    "gc.auto": "0",
}


def serve(world: World, request: Request) -> tuple[Answer, Caller]:
    """Answer a request whose path matches ADDRESS. Raises Refusal."""
    match = ADDRESS.fullmatch(request.path)
    assert match is not None
    service = request.arguments.get("service", "") if match["what"] == "info/refs" else match["what"]
    writes = service == "git-receive-pack"
    with world.lock:
        caller = _identify(world, request)
        full_name = f"{match['owner']}/{match['name']}"
        try:
            repo = doors.open_repo(world, caller, full_name, ())
        except doors.Moved as moved:
            rest = request.path.split("/", 3)[3] + (f"?{request.query}" if request.query else "")
            return redirect(f"{world.at.page(moved.repo)}.git/{rest}", 301), caller
        except Refusal:
            if caller == Caller():  # a stranger is asked to sign in, not told what there is
                raise _sign_in() from None
            raise Refusal(404, "Repository not found.") from None
        if not doors.may(world, caller, repo, f"contents:{'write' if writes else 'read'}"):
            if caller == Caller():
                raise _sign_in()
            raise Refusal(403, "Write access to repository not granted.")
    if not writes or match["what"] == "info/refs":
        return _backend(request, repo, match["what"]), caller
    before = git_store.refs(repo.path)
    answer = _backend(request, repo, match["what"])
    _announce(world, repo, before, caller)
    return answer, caller


def _identify(world: World, request: Request) -> Caller:
    try:
        return doors.identify_git(world, request.headers)
    except Refusal as refused:
        if refused.answer.status == 401:
            raise _sign_in() from None
        raise


def _sign_in() -> Refusal:
    return Refusal(401, "Invalid username or token.", {"WWW-Authenticate": 'Basic realm="GitHub"'})


def _announce(world: World, repo: Repo, before: dict[str, str], caller: Caller) -> None:
    after = git_store.refs(repo.path)
    with world.lock:
        for ref in sorted({*before, *after}):
            moves.ref_moved(world, repo, ref, before.get(ref, ZEROS), after.get(ref, ZEROS), caller.who)


def _backend(request: Request, repo: Repo, what: str) -> Answer:
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "HTTP_"))},
        "GIT_PROJECT_ROOT": str(repo.path), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": f"/{what}",
        "REQUEST_METHOD": request.method, "QUERY_STRING": request.query, "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""), "REMOTE_ADDR": "127.0.0.1", "REMOTE_USER": "x",
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""), "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
    }  # fmt: skip
    for number, (key, value) in enumerate(_SETTINGS.items()):
        env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    done = subprocess.run(["git", "http-backend"], env=env, input=request.body, capture_output=True)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200" if headers else "500").split()[0])
    return Answer(status, rest, headers)
