"""REST: commit statuses and check runs."""

from __future__ import annotations

from typing import Any

from fake_github import events, limits, shapes, shapes_work
from fake_github.rest_repos import ONE, commit_of, get_commit
from fake_github.routing import NotFound, Op, Refusal, Unprocessable, paged, route
from fake_github.state import CheckRun, Repo, Status, iso
from fake_github.wire import Answer

STALE_S = 14 * 24 * 3600.0
SAME_NAMED = 1000


@route("POST", f"{ONE}/statuses/{{sha}}", "statuses:write")
def create_status(op: Op) -> Answer:
    limits.check_status(op.body or {})
    sha = commit_of(op, op.params["sha"])
    context = op.body.get("context") or "default"
    known = op.repo.statuses.setdefault(sha, [])
    if sum(1 for status in known if status.context.lower() == context.lower()) >= op.world.max_statuses:
        raise Unprocessable("Validation Failed", "This SHA and context has reached the maximum number of statuses.")
    found = Status(
        op.world.new_id(), sha, op.body["state"], context, op.body.get("description"), op.body.get("target_url"),
        op.caller.who, op.world.clock(),
    )  # fmt: skip
    known.append(found)
    events.status(op.world, op.repo, found)
    return Answer(201, shapes_work.status(op.at, op.repo, found))


def latest(repo: Repo, sha: str) -> dict[str, Status]:
    """The newest status of every context."""
    newest: dict[str, Status] = {}
    for status in repo.statuses.get(sha, []):
        newest.pop(status.context, None)
        newest[status.context] = status
    return newest


@route("GET", f"{ONE}/commits/{{ref}}/status", "statuses:read")
def combined_status(op: Op) -> Answer:
    sha = commit_of(op, op.params["ref"])
    found = list(latest(op.repo, sha).values())
    states = {status.state for status in found}
    bad = states & {"failure", "error"}
    state = "failure" if bad else "success" if states == {"success"} else "pending"
    shown = [shapes_work.status(op.at, op.repo, status, creator=False) for status in found]
    answer = paged(op, shown, "statuses")
    url = f"{op.at.repo(op.repo)}/commits/{sha}"
    answer.body |= {
        "state": state, "sha": sha, "repository": shapes.repository(op.at, op.repo, full=False), "commit_url": url,
        "url": f"{url}/status",
    }  # fmt: skip
    return answer


@route("GET", f"{ONE}/commits/{{ref}}/statuses", "statuses:read")
def list_statuses(op: Op) -> Answer:
    sha = commit_of(op, op.params["ref"])
    found = reversed(op.repo.statuses.get(sha, []))
    return paged(op, [shapes_work.status(op.at, op.repo, status) for status in found])


@route("POST", f"{ONE}/check-runs", "checks:write")
def create_check(op: Op) -> Answer:
    body = op.body or {}
    app = op.caller.through
    if app is None:
        raise Refusal(403, "You must authenticate via a GitHub App.")
    limits.check_run(body)
    sha = commit_of(op, str(body.get("head_sha", "")))
    if not body.get("name"):
        raise Unprocessable("Invalid request.", "name wasn't supplied.")
    now = op.world.clock()
    suite = events.suite_of(op.world, op.repo, sha, app)
    run = CheckRun(op.world.new_id(), app, suite, body["name"], sha, "queued", None, now, now)
    op.repo.checks[run.id] = run
    _drop_oldest(op.repo, run)
    _write(op, run, body)
    return Answer(201, shapes_work.check_run(op.at, op.repo, run))


def _drop_oldest(repo: Repo, run: CheckRun) -> None:
    same = [found for found in repo.checks.values() if found.suite is run.suite and found.name == run.name]
    for old in same[:-SAME_NAMED]:
        del repo.checks[old.id]


@route("PATCH", f"{ONE}/check-runs/{{check_run_id}}", "checks:write")
def update_check(op: Op) -> Answer:
    run = _run(op)
    if run.app is not op.caller.through:
        raise Refusal(403, "Invalid app_id - check run can only be modified by the GitHub App that created it.")
    limits.check_run(op.body or {})
    _write(op, run, op.body or {})
    return Answer(200, shapes_work.check_run(op.at, op.repo, run))


def _run(op: Op) -> CheckRun:
    run = op.repo.checks.get(op.number("check_run_id"))
    if run is None:
        raise NotFound
    return run


def _write(op: Op, run: CheckRun, body: dict[str, Any]) -> None:
    """Take over what a call says, and announce what that changed."""
    was, now, new = run.status, op.world.clock(), run.updates == 0
    for name in ("name", "external_id", "details_url", "started_at", "completed_at", "status"):
        if name in body:
            setattr(run, name, body[name])
    if "conclusion" in body:
        run.conclusion, run.status = body["conclusion"], "completed"
    if run.status == "completed":
        run.completed_at = run.completed_at or iso(now)
    else:
        run.conclusion = run.completed_at = None
    run.started_at = run.started_at or iso(now)
    output = body.get("output") or {}
    run.annotations += output.get("annotations") or []
    run.output |= {name: output[name] for name in ("title", "summary", "text") if name in output}
    if "actions" in body:
        run.actions = list(body["actions"])
    run.touched_at, run.updates, run.suite.reset = now, run.updates + 1, False
    if new:
        events.check_run(op.world, op.repo, run, "created", op.caller.who)
    if run.status == "completed" and was != "completed":
        events.check_run(op.world, op.repo, run, "completed", op.caller.who)


def go_stale(repo: Repo, now: float) -> None:
    """GitHub ends what nobody has touched for 14 days."""
    for run in repo.checks.values():
        if run.status != "completed" and now - run.touched_at > STALE_S:
            run.status, run.conclusion, run.completed_at = "completed", "stale", iso(now)


@route("GET", f"{ONE}/commits/{{ref}}/check-runs", "checks:read")
def list_checks(op: Op) -> Answer:
    sha = commit_of(op, op.params["ref"])
    go_stale(op.repo, op.world.clock())
    wanted, state, app_id = (op.query.get(name) for name in ("check_name", "status", "app_id"))
    found = [
        run
        for run in op.repo.checks.values()
        if run.head_sha == sha
        and wanted in (None, run.name)
        and state in (None, run.status)
        and app_id in (None, str(run.app.id))
    ]
    if op.query.get("filter", "latest") == "latest":
        found = list({(run.app.id, run.name): run for run in found}.values())
    shown = [shapes_work.check_run(op.at, op.repo, run) for run in reversed(found)]
    return paged(op, shown, "check_runs")


@route("GET", f"{ONE}/check-runs/{{check_run_id}}/annotations", "checks:read")
def list_annotations(op: Op) -> Answer:
    run = _run(op)
    return paged(op, [shapes_work.annotation(op.at, op.repo, run, given) for given in run.annotations])


# Last: the addresses above begin as this one does.
route("GET", f"{ONE}/commits/{{ref}}", "contents:read")(get_commit)
