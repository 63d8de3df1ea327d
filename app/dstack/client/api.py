"""One method per call of the client API (`/api/v1`); answers are plain dicts with the keys of `dstack.wire.api`.

Dicts, because building the message classes needs pydantic, which costs more time than the whole of `dstack runs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from dstack.client.stream import Stream
from dstack.client.transport import Transport
from dstack.errors import Invalid, Unreachable

Json = dict[str, Any]
PREFIX = "/api/v1"
WAIT_S = 25.0  # the longest a `wait` call is held by the server
SILENCE_S = 90.0  # a log stream without a byte for this long is taken for cut and opened again at its offset
LOG_OFFSET_HEADER = "Dstack-Log-Offset"


class Client:
    """A signed-in caller of one server. Raises the classes of `dstack.errors` that the server names, or Unreachable."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def url(self) -> str:
        return self.transport.address.url

    @property
    def token(self) -> str:
        return self.transport.token

    # runs
    def server(self) -> Json:
        return self._get("/server")

    def runs(self, *, limit: int, **filters: str) -> Json:
        """A page of runs, newest first. `filters`: repo, workflow, branch, state, trigger, pull_request, cursor; empty
        ones do not count."""
        return self._get("/runs", {"limit": str(limit), **filters})

    def all_runs(self, *, limit: int, **filters: str) -> Iterator[Json]:
        """Up to `limit` runs, page after page."""
        cursor = ""
        while limit > 0:
            page = self.runs(limit=min(limit, 100), cursor=cursor, **filters)
            yield from page["runs"][:limit]
            limit -= len(page["runs"])
            cursor = page.get("next") or ""
            if not cursor or not page["runs"]:
                return

    def run(self, name: str) -> Json:
        return self._get(f"/runs/{_part(name)}")

    def start(self, request: Json) -> list[Json]:
        """Start a run from a RunRequest; its group's runs, the asked-for one first. Safe to repeat by its key."""
        page = self._send("POST", "/runs", request, keyed=bool(request.get("idempotency_key")))
        return _runs_of(page)

    def wait(self, name: str, timeout_s: float = WAIT_S) -> Json:
        """The run at its end, or as it is after `timeout_s`, of which whole seconds up to 25 count."""
        held = int(max(0.0, min(timeout_s, WAIT_S)))
        return self._get(f"/runs/{_part(name)}/wait", {"timeout_s": str(held)}, timeout_s=held + 20)

    def stop(self, name: str, *, group: bool = False) -> Json:
        return self._send("POST", f"/runs/{_part(name)}/stop", {"group": group}, keyed=True)

    def approve(self, name: str, *, budget: str = "") -> Json:
        """The run, once its commit is approved; `budget` as people write it, such as 4gpu-h."""
        return self._send("POST", f"/runs/{_part(name)}/approve", {"budget": budget})

    def restart(self, name: str) -> list[Json]:
        return _runs_of(self._send("POST", f"/runs/{_part(name)}/restart", {}))

    def log(self, name: str, *, job: str = "", offset: int = 0, follow: bool = False) -> Stream:
        """The bytes of a run's log from `offset`; with `follow` until the run is final and all bytes are sent."""
        query = {"job": job, "offset": str(offset), "follow": "1" if follow else ""}
        path = PREFIX + f"/runs/{_part(name)}/log" + _query(query)
        return self.transport.stream(path, timeout_s=SILENCE_S, headers={"Accept": "*/*"})

    # artifacts and tags
    def artifacts(self, name: str) -> list[Json]:
        return self._list(f"/runs/{_part(name)}/artifacts")

    def artifact_files(self, artifact_id: str) -> list[Json]:
        return self._list(f"/artifacts/{_part(artifact_id)}/files")

    def artifact_file(self, artifact_id: str, path: str, offset: int = 0) -> Stream:
        """The bytes of one file, from `offset` when the server grants it (status 206)."""
        headers = {"Accept": "*/*", **({"Range": f"bytes={offset}-"} if offset else {})}
        return self.transport.stream(
            f"{PREFIX}/artifacts/{_part(artifact_id)}/files/{quote(path, safe='/')}", headers=headers
        )

    def small_file(self, artifact_id: str, path: str) -> bytes:
        """All bytes of one small file, over the kept connection."""
        address = f"{PREFIX}/artifacts/{_part(artifact_id)}/files/{quote(path, safe='/')}"
        return self.transport.call("GET", address, headers={"Accept": "*/*"}).body

    def tags(self, repo: str = "") -> list[Json]:
        return self._list("/tags", {"repo": repo})

    def set_tag(self, repo: str, workflow: str, tag: str, run: str) -> Json:
        return self._send("PUT", f"/repos/{_repo(repo)}/tags/{_part(workflow)}/{_part(tag)}", {"run": run})

    def delete_tag(self, repo: str, workflow: str, tag: str) -> None:
        self._delete(f"/repos/{_repo(repo)}/tags/{_part(workflow)}/{_part(tag)}")

    # repos and secrets
    def repos(self) -> list[Json]:
        return self._list("/repos")

    def add_repo(self, name: str) -> Json:
        return self._send("POST", "/repos", {"name": name})

    def secrets(self, repo: str) -> list[Json]:
        return self._list(f"/repos/{_repo(repo)}/secrets")

    def set_secret(self, repo: str, name: str, value: str) -> None:
        self._call("PUT", f"/repos/{_repo(repo)}/secrets/{_part(name)}", {"value": value})

    def delete_secret(self, repo: str, name: str) -> None:
        self._delete(f"/repos/{_repo(repo)}/secrets/{_part(name)}")

    # deliveries
    def deliveries(self, *, limit: int, **filters: str) -> Json:
        """A page of them, newest first. `filters`: repo, state, cursor; empty ones do not count."""
        return self._get("/deliveries", {"limit": str(limit), **filters})

    def replay_delivery(self, delivery_id: str) -> Json:
        return self._send("POST", f"/deliveries/{_part(delivery_id)}/replay", {})

    # runners, users, upkeep
    def runners(self) -> list[Json]:
        return self._list("/runners")

    def delete_runner(self, name: str) -> None:
        self._delete(f"/runners/{_part(name)}")

    def users(self) -> list[Json]:
        return self._list("/users")

    def add_user(self, name: str, role: str) -> Json:
        return self._send("POST", "/users", {"name": name, "role": role})

    def delete_user(self, name: str) -> None:
        self._delete(f"/users/{_part(name)}")

    def new_user_token(self, name: str) -> Json:
        return self._send("POST", f"/users/{_part(name)}/token", {})

    def sign_in_link(self) -> Json:
        return self._send("POST", "/sign-in-links", {})

    def prune(self, *, days: int, dry_run: bool) -> Json:
        return self._send("POST", "/prune", {"days": days, "dry_run": dry_run}, timeout_s=600)

    # events and GitHub
    def post_event(self, event: Json) -> Json:
        """Say an EventRequest; what it did. Safe to repeat by its key."""
        return self._send("POST", "/events", event, keyed=bool(event.get("idempotency_key")))

    def github(self) -> Json:
        return self._get("/github")

    def make_github_app(self, *, name: str, organization: str, mode: str, replace: bool) -> Json:
        body = {"name": name, "organization": organization, "mode": mode, "replace": replace}
        return self._send("POST", "/github/app", body)

    def forget_github_app(self) -> None:
        self._delete("/github/app")

    def github_doctor(self, *, fix: bool) -> Json:
        return self._send("POST", "/github/doctor", {"fix": fix}, timeout_s=120)

    def _get(self, path: str, query: Mapping[str, str] | None = None, timeout_s: float = 30) -> Json:
        return _object(self._call("GET", path + _query(query or {}), None, timeout_s=timeout_s), self.url)

    def _list(self, path: str, query: Mapping[str, str] | None = None) -> list[Json]:
        data = self._call("GET", path + _query(query or {}), None)
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise _no_dstack(self.url)
        return data

    def _send(self, method: str, path: str, body: Json, *, keyed: bool = False, timeout_s: float = 60) -> Json:
        return _object(self._call(method, path, body, keyed=keyed, timeout_s=timeout_s), self.url)

    def _delete(self, path: str) -> None:
        self._call("DELETE", path, None)

    def _call(self, method: str, path: str, body: Json | None, *, keyed: bool = False, timeout_s: float = 30) -> object:
        raw = None if body is None else json.dumps(body).encode()
        answer = self.transport.call(method, PREFIX + path, body=raw, keyed=keyed, timeout_s=timeout_s)
        if not answer.body:
            return None
        try:
            data: object = json.loads(answer.body)
        except ValueError:
            raise _no_dstack(self.url) from None
        return data


def _object(data: object, url: str) -> Json:
    if not isinstance(data, dict):
        raise _no_dstack(url)
    return data


def _runs_of(page: Json) -> list[Json]:
    runs: list[Json] = page.get("runs") or []
    if not runs:
        raise Invalid("the server started no run", "Its log may say why.")
    return runs


def _part(name: str) -> str:
    """One path segment from outside text: it can neither add a segment nor climb one."""
    if name in ("", ".", ".."):
        raise Invalid(f"{name!r} is not a name")
    return quote(name, safe="")


def _repo(name: str) -> str:
    owner, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        raise Invalid(f"{name!r} is not a repo", "A repo reads OWNER/NAME, such as local/digits.")
    return f"{_part(owner)}/{_part(rest)}"


def _query(values: Mapping[str, str]) -> str:
    text = urlencode({key: value for key, value in values.items() if value})
    return f"?{text}" if text else ""


def _no_dstack(url: str) -> Unreachable:
    return Unreachable(
        f"{url} answered something that is not dstack's API", "Look with `dstack config` where the address comes from."
    )
