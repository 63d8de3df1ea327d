"""The order of every call: faults first, then who calls, what it may, what it says, and what is done; all of it kept
in the ledger."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Callable
from typing import Any

from fake_github import doors, git_door, rest_app, rest_checks, rest_issues, rest_repos
from fake_github.description import Description, _Bad
from fake_github.faults import Fault, Faults
from fake_github.routing import Caller, NotFound, Op, Refusal, Route, find_route, known_path, read_json
from fake_github.state import Call
from fake_github.wire import Answer, Request, redirect
from fake_github.world import World

OPERATIONS = (rest_repos, rest_checks, rest_issues, rest_app)  # importing them fills the table of routes
PREFIX = "/api/v3"
_BY_ID = re.compile(r"/repositories/(\d+)(/.*)?")
_FREE_WRITES = re.compile(r"/app/installations/\d+/access_tokens|/app/hook/deliveries/\d+/attempts|/app-manifests/.*")


class Front:
    """Answers requests out of a World. `delay_s` is added to every call."""

    def __init__(self, world: World, pages: Callable[[Request], Answer]) -> None:
        self._world = world
        self._pages = pages
        self._stopping = threading.Event()
        self.description = Description()
        self.faults = Faults(world.clock)
        self.delay_s = 0.0
        self.check_answers = False

    def stop(self) -> None:
        self._stopping.set()

    def answer(self, request: Request) -> Answer:
        """One call, from fault to ledger."""
        path = request.path.removeprefix(PREFIX)
        if self.delay_s:
            self._stopping.wait(self.delay_s)
        fault = self.faults.take(request.method, path)
        if fault is not None and fault.hang_s:
            self._stopping.wait(fault.hang_s)
        kept = _Kept(self._world, request, path, fault)
        if fault is not None and fault.answer is not None:
            return kept.end(fault.answer)
        try:
            answer = self._work(request, path, kept)
        except Refusal as refused:
            answer = refused.answer
        except Exception as error:  # noqa: BLE001 - a mistake of the fake must fail the test, not a thread
            self._world.troubles.append(error)
            answer = Answer(500, {"message": f"the fake itself failed: {error!r}"})
        answer.headers.setdefault("X-GitHub-Request-Id", f"{id(request):X}")
        kept.end(answer)
        return Answer(0, cut=True) if fault is not None and fault.lost else answer

    def _work(self, request: Request, path: str, kept: _Kept) -> Answer:
        if request.path.startswith(PREFIX + "/"):
            return self._rest(request, path, kept)
        if git_door.ADDRESS.fullmatch(request.path):
            kept.git = True
            answer, kept.caller = git_door.serve(self._world, request)
            return answer
        kept.silent = True
        return self._pages(request)

    def _rest(self, request: Request, path: str, kept: _Kept) -> Answer:
        world = self._world
        kept.body = read_json(request) if request.method != "GET" else None
        caller = kept.caller = doors.identify(world, request.headers)
        path = self._by_id(path)
        found = find_route(request.method, path)
        if found is None:
            wrong = "method" if known_path(path) else "address"
            world.violations.append(f"{request.method} {path}: no such {wrong} (or none this fake knows)")
            raise NotFound
        route, params = found
        doors.admit(route, caller)
        writes = request.method != "GET" and not _FREE_WRITES.fullmatch(path)
        with world.budget.writing(caller) if writes else contextlib.nullcontext():
            op = Op(world, request, params, kept.body, caller, query=request.arguments)
            answer = self._operate(route, op)
        return self._conditional(request, answer, caller)

    def _operate(self, route: Route, op: Op) -> Answer:
        world = self._world
        with world.lock:
            if "owner" in op.params:
                try:
                    op.repo_found = doors.open_repo(
                        world, op.caller, f"{op.params['owner']}/{op.params['repo']}", route.needs
                    )
                except doors.Moved as moved:
                    return self._moved(op, moved)
            try:
                world.violations += self.description.check_request(route, op)
            except _Bad as bad:
                world.violations += bad.wrong
                raise
            answer = route.handler(op)
        if self.check_answers:
            world.violations += [f"own answer: {text}" for text in
                                 self.description.check_answer(route, answer.status, answer.body)]  # fmt: skip
        return answer

    def _moved(self, op: Op, moved: doors.Moved) -> Answer:
        rest = op.request.path.removeprefix(PREFIX).split("/", 4)[4:]
        address = "/".join([f"{op.at.api}/repositories/{moved.repo.id}", *rest])
        answer = redirect(address + (f"?{op.request.query}" if op.request.query else ""),
                          301 if op.request.method == "GET" else 307)  # fmt: skip
        answer.body = {"message": "Moved Permanently", "url": address}
        return answer

    def _by_id(self, path: str) -> str:
        """`/repositories/ID/...`, which redirects lead to, is `/repos/OWNER/NAME/...`."""
        if match := _BY_ID.fullmatch(path):
            repo = self._world.repos.get(int(match[1]))
            if repo is None or repo.gone:
                raise NotFound
            return f"/repos/{repo.full_name}{match[2] or ''}"
        return path

    def _conditional(self, request: Request, answer: Answer, caller: Caller) -> Answer:
        """ETags, and the budget: what has not changed costs nothing."""
        budget = self._world.budget
        if request.method == "GET" and answer.status == 200:
            etag = f'W/"{hashlib.sha256(answer.encoded()).hexdigest()}"'
            if request.headers.get("if-none-match") == etag:
                return Answer(304, None, {"ETag": etag, **budget.headers(caller)})
            answer.headers["ETag"] = etag
        if not request.path.endswith("/rate_limit"):
            budget.count(caller)
        answer.headers |= budget.headers(caller)
        return answer


class _Kept:
    """What the ledger will say of a call under way."""

    def __init__(self, world: World, request: Request, path: str, fault: Fault | None) -> None:
        self._world, self._request, self._path, self._fault = world, request, path, fault
        self._began = world.clock()
        self.caller = Caller()
        self.body: Any = None
        self.git = self.silent = False

    def end(self, answer: Answer) -> Answer:
        """Write it down (pages are not calls). A dropped call has status 0; one whose answer was lost has the status
        nobody saw."""
        if self._fault is not None and self._fault.answer is not None:
            self._look()
        installation = self.caller.installation
        call = Call(
            self._began, self._request.method, self._path, self._request.query, answer.status,
            installation.id if installation else None, self.body, self._fault.name if self._fault else "",
        )  # fmt: skip
        git = self.git or git_door.ADDRESS.fullmatch(self._path) is not None
        if not self.silent:
            (self._world.git_ledger if git else self._world.ledger).append(call)
        return answer

    def _look(self) -> None:
        """Who called and what with, of a call that a fault kept from being worked on."""
        with contextlib.suppress(Refusal):
            self.caller = doors.identify(self._world, self._request.headers)
        with contextlib.suppress(Refusal):
            self.body = read_json(self._request) if self._request.method != "GET" else None
