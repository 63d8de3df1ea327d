"""Runs: list, show, start, wait, stop, restart, log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from sqlmodel import Session
from starlette.responses import Response, StreamingResponse

from dstack.errors import ConfigProblems, Invalid, NotFound
from dstack.git.names import check_ref, check_sha
from dstack.server.bus import delivery_topic, run_topic, wait_for
from dstack.server.decide.budget import parse_budget
from dstack.server.decide.names import is_run_name
from dstack.server.failpoints import reach
from dstack.server.gateways.kept import keep_commits
from dstack.server.models import Delivery, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.approve_pull import approve_run
from dstack.server.services.restart_run import restart_run
from dstack.server.services.stop_run import stop_run
from dstack.server.store.deliveries import delivery_by_id, groups_of_delivery
from dstack.server.store.repos import repo_by_name
from dstack.server.store.runs import RunFilter, list_runs, run_by_name, runs_of_group
from dstack.server.store.views import view_run, view_runs
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.web.access import Audience, user_name
from dstack.server.web.disk_space import check_disk
from dstack.server.web.operation import Call, Operations
from dstack.server.web.run_log import RunLog
from dstack.wire.api import ApproveRequest, RunPage, RunRequest, RunView, StopRequest
from dstack.wire.codec import to_dict
from dstack.wire.states import JobState, Trigger

operations = Operations()
_START_S = 30.0
MAX_KEY = 200


@operations.add(
    "GET",
    "/api/v1/runs",
    Audience.USER,
    gives=RunPage,
    queries=("repo", "workflow", "branch", "state", "sha", "trigger", "pull_request", "limit", "cursor"),
)
async def get_runs(call: Call) -> RunPage:
    """Runs, newest first."""
    limit = call.number("limit", 20, 1, 500)
    cursor = call.number("cursor", 0, 0, 2**62) if call.query("cursor") else None
    if call.query("state") and call.query("state") not in list(JobState):
        raise Invalid(f"{call.query('state')!r} is not a state; expected one of {', '.join(JobState)}")
    if call.query("trigger") and call.query("trigger") not in list(Trigger):
        raise Invalid(f"{call.query('trigger')[:40]!r} is not a trigger; expected one of {', '.join(Trigger)}")
    pull_request = call.number("pull_request", 0, 1, 2**62) if call.query("pull_request") else None

    def page(session: Session) -> RunPage:
        repo = find_repo(session, call.query("repo")) if call.query("repo") else None
        want = RunFilter(
            repo_id=repo.id if repo else None,
            workflow=call.query("workflow"),
            branch=call.query("branch"),
            state=call.query("state"),
            sha=call.query("sha"),
            trigger=call.query("trigger"),
            pull_request=pull_request,
            before=cursor,
        )
        rows = list_runs(session, want, limit + 1)
        more = str(rows[limit - 1].id) if len(rows) > limit else None
        return RunPage(view_runs(session, rows[:limit]), more)

    return await call.wiring.db.read_async(page)


@operations.add("GET", "/api/v1/runs/{name}", Audience.USER, gives=RunView)
async def get_run(call: Call) -> RunView:
    """One run."""
    return await call.wiring.db.read_async(lambda s: view_run(s, find_run(s, call.path("name"))))


@operations.add("POST", "/api/v1/runs", Audience.USER, takes=RunRequest, gives=RunPage, status=201)
async def start_run(call: Call) -> RunPage:
    """Starts a workflow and those it needs; answers the whole group, the one asked for first."""
    wiring, request, sender = call.wiring, call.body, user_name(call.caller)
    check_disk(wiring)
    if bool(request.workflow) == bool(request.provider):
        raise Invalid("say either a workflow or a provider")
    check_sha(request.sha)
    if request.branch:
        check_ref(request.branch)
    if len(request.idempotency_key) > MAX_KEY:
        raise Invalid(f"an idempotency key has at most {MAX_KEY} characters")
    repo = wiring.db.read(lambda s: find_repo(s, request.repo))
    if not await asyncio.to_thread(wiring.git.has_commit, str(repo.id), request.sha):
        raise NotFound(f"{request.repo} has no commit {request.sha}", "Push it first; `dstack run` does that for you.")
    guid = f"manual:{repo.id}:{request.idempotency_key or wiring.clock.new_id()}"
    now, body = wiring.clock.now(), to_dict(request)
    delivery = await wiring.db.write_async(
        lambda s: receive_delivery(s, "manual", guid, body, repo_id=repo.id, sender=sender, now=now)
    )
    reach("delivery-committed")
    settled = await delivery_settled(call, delivery.id or 0, _START_S)
    if settled.state is DeliveryState.FAILED:
        raise ConfigProblems(settled.reason)
    return await wiring.db.read_async(lambda s: _started(s, delivery, request.workflow))


def _started(session: Session, delivery: Delivery, workflow: str) -> RunPage:
    groups = groups_of_delivery(session, delivery.id or 0)
    runs = [run for group in groups for run in runs_of_group(session, group.id or 0)]
    runs.sort(key=lambda run: (run.workflow != workflow, run.id))
    return RunPage(view_runs(session, runs))


async def delivery_settled(call: Call, delivery_id: int, timeout_s: float) -> Delivery:
    """The delivery, once handled or after `timeout_s`."""
    wiring = call.wiring
    deadline = asyncio.get_running_loop().time() + timeout_s
    with wiring.bus.listen(delivery_topic(delivery_id)) as event:
        while True:
            delivery = wiring.db.read(lambda s: delivery_by_id(s, delivery_id))
            left = deadline - asyncio.get_running_loop().time()
            if delivery.state is not DeliveryState.RECEIVED or left <= 0 or wiring.bus.is_closed:
                return delivery
            await wait_for(event, left)


@operations.add("GET", "/api/v1/runs/{name}/wait", Audience.USER, gives=RunView, queries=("timeout_s",))
async def wait_run(call: Call) -> RunView:
    """The run, as soon as it has ended or after `timeout_s`."""
    wiring, name = call.wiring, call.path("name")
    deadline = asyncio.get_running_loop().time() + call.number("timeout_s", 25, 0, 60)
    with wiring.bus.listen(run_topic(name)) as event:
        while True:
            run = wiring.db.read(lambda s: find_run(s, name))
            left = deadline - asyncio.get_running_loop().time()
            if run.state.is_final or left <= 0 or wiring.bus.is_closed:
                return await wiring.db.read_async(lambda s: view_run(s, find_run(s, name)))
            await wait_for(event, left)


@operations.add("POST", "/api/v1/runs/{name}/stop", Audience.USER, takes=StopRequest, gives=RunView)
async def stop(call: Call) -> RunView:
    """Stops the run and what waits on it, or its whole group."""
    now, by = call.wiring.clock.now(), user_name(call.caller)

    def unit(session: Session) -> RunView:
        run = find_run(session, call.path("name"))
        stop_run(session, run, group=call.body.group, by=by, now=now)
        return view_run(session, run)

    return await call.wiring.db.write_async(unit)


@operations.add("POST", "/api/v1/runs/{name}/approve", Audience.USER, takes=ApproveRequest, gives=RunView)
async def approve(call: Call) -> RunView:
    """Lets the runs of a fork's pull request begin, at the commit of this one."""
    now, by, budget = call.wiring.clock.now(), user_name(call.caller), call.body.budget
    gpu_seconds = parse_budget(budget) if budget else None

    def unit(session: Session) -> RunView:
        run = find_run(session, call.path("name"))
        approve_run(session, run, by=by, gpu_seconds=gpu_seconds, now=now)
        return view_run(session, run)

    return await call.wiring.db.write_async(unit)


@operations.add("POST", "/api/v1/runs/{name}/restart", Audience.USER, gives=RunPage, status=201)
async def restart(call: Call) -> RunPage:
    """A new run of the same work."""
    wiring, by = call.wiring, user_name(call.caller)
    check_disk(wiring)

    def unit(session: Session) -> tuple[Run, RunPage]:
        run = restart_run(session, find_run(session, call.path("name")), by=by, clock=wiring.clock)
        return run, RunPage([view_run(session, run)])

    run, page = await wiring.db.write_async(unit)
    await asyncio.to_thread(keep_commits, wiring.git, run.git_id, {run.name: run.sha})
    return page


@operations.add("GET", "/api/v1/runs/{name}/log", Audience.USER, queries=("job", "offset", "follow"))
async def get_log(call: Call) -> Response:
    """The log's bytes from `offset`: all attempts of all jobs in order; `follow=1` stays until the run has ended."""
    name = call.path("name")

    def open_log(session: Session) -> RunLog:
        found = RunLog(call.wiring, find_run(session, name).name, call.query("job"))
        found.check(session)
        return found

    run_log = await call.wiring.db.read_async(open_log)
    offset = call.number("offset", 0, 0, 2**60)

    async def pieces() -> AsyncIterator[bytes]:
        async for piece in run_log.read(offset, follow=call.switch("follow")):
            yield piece

    headers = {"Dstack-Log-Offset": str(offset), "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return StreamingResponse(pieces(), headers=headers, media_type="text/plain; charset=utf-8")


def find_run(session: Session, name: str) -> Run:
    """Raises NotFound."""
    run = run_by_name(session, name) if is_run_name(name) else None
    if run is None:
        raise NotFound(f"there is no run {name[:80]}", "`dstack runs` lists them.")
    return run


def find_repo(session: Session, full_name: str) -> Repo:
    """Raises NotFound."""
    owner, _, name = full_name.partition("/")
    repo = repo_by_name(session, owner, name)
    if repo is None:
        raise NotFound(
            f"there is no repo {full_name[:120]}", "An admin's first push makes it; `dstack repos` lists them."
        )
    return repo
