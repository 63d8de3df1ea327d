"""Runs that the clock and other programs ask for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from served_api import Api, WorkingCopy, serve, wait_for
from sqlmodel import select

from dstack.server.models import Delivery, Run, Schedule
from dstack.server.services.fire_schedules import fire_schedules
from dstack.server.services.read_schedules import read_schedules

NIGHTLY = """\
workflows:
  - name: nightly
    provider: bash
    commands: ["echo ${{ schedule.time }}"]
    resources: {labels: [nobody]}
    on: {schedule: {cron: "0 3 * * *", timezone: Europe/Berlin%s}}
"""
DRIFT = """\
workflows:
  - name: retrain
    provider: bash
    commands: ["echo ${{ threshold }}"]
    resources: {labels: [nobody]}
    on: {event: drift}
  - name: other
    provider: bash
    commands: ["true"]
    resources: {labels: [nobody]}
    on: {event: drift}
"""
VARIABLES = "variables:\n  retrain: {threshold: 1}\n"


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serve(tmp_path) as api:
        yield api


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """For tests that change nothing of it."""
    with serve(tmp_path_factory.mktemp("still")) as api:
        yield api


def push(copy: WorkingCopy, **files: str) -> str:
    sha = copy.commit({f".dstack/{name}.yaml": text for name, text in files.items()})
    copy.push()
    return sha


def schedules(api: Api) -> list[Schedule]:
    read_schedules(api.wiring)
    return list(api.wiring.db.read(lambda s: s.exec(select(Schedule)).all()))


def runs(api: Api) -> list[Run]:
    return list(api.wiring.db.read(lambda s: s.exec(select(Run)).all()))


def deliveries(api: Api) -> list[Delivery]:
    return list(api.wiring.db.read(lambda s: s.exec(select(Delivery).where(Delivery.kind == "schedule")).all()))


def settled(api: Api, count: int) -> list[Delivery]:
    return wait_for(
        lambda: (found := deliveries(api)) and len(found) == count and all(d.processed_at for d in found) and found
    )


def go_to(api: Api, moment: float) -> None:
    api.clock.ahead += moment - api.clock.now()


def test_a_schedule_runs_once_at_its_time_and_knows_it(api: Api) -> None:
    push(api.working_copy(), workflows=NIGHTLY % "")
    (row,) = schedules(api)
    assert fire_schedules(api.wiring) == 0, "not due yet"
    nominal = row.due_at
    go_to(api, nominal + 1)
    fire_schedules(api.wiring)  # the server's own timer may have been first
    fire_schedules(api.wiring)
    settled(api, 1)
    (run,) = runs(api)
    assert (run.trigger.value, run.scheduled_at, run.is_clean) == ("schedule", nominal, False)
    job = api.get_run(run.name)["jobs"][0]
    assert job["state"] == "queued"
    iso = datetime.fromtimestamp(nominal, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    spec: Any = api.wiring.db.read(lambda s: str(s.connection().exec_driver_sql("select spec from jobs").all()))
    assert iso in spec
    (row,) = schedules(api)
    assert row.due_at > nominal


@pytest.mark.parametrize(("missed", "made", "told"), [("", 1, 2), (", missed: skip", 0, 1)])
def test_times_the_server_was_away_for_are_caught_up_with_once_or_not(
    api: Api, missed: str, made: int, told: int
) -> None:
    push(api.working_copy(), workflows=NIGHTLY % missed)
    (row,) = schedules(api)
    go_to(api, row.due_at + 4.5 * 86_400)
    fire_schedules(api.wiring)
    found = settled(api, told)
    assert len(runs(api)) == made
    skipped = [d for d in found if d.state.value == "ignored"]
    assert len(skipped) == 1 and "the server was away" in skipped[0].reason
    assert "not run for" in skipped[0].reason


def test_the_file_on_the_default_branch_decides(api: Api) -> None:
    copy = api.working_copy()
    push(copy, workflows=NIGHTLY % "")
    (before,) = schedules(api)
    copy.git("checkout", "-q", "-b", "other")
    copy.commit({".dstack/workflows.yaml": NIGHTLY.replace("0 3", "0 4") % ""})
    copy.push("other")
    assert [(row.cron, row.due_at) for row in schedules(api)] == [(before.cron, before.due_at)]
    copy.git("checkout", "-q", "main")
    push(copy, workflows="workflows: [")  # a mistake silences nothing
    assert [row.cron for row in schedules(api)] == [before.cron]
    push(copy, workflows=NIGHTLY.replace("0 3", "0 5") % "")
    assert [row.cron for row in schedules(api)] == ["0 5 * * *"]
    push(copy, workflows=NIGHTLY.replace("on: {schedule", "on: {push: {}, schedule").replace("nightly", "n2") % "")
    assert [row.workflow for row in schedules(api)] == ["n2"]


def test_an_event_sets_the_variables_a_workflow_declares(api: Api) -> None:
    copy = api.working_copy()
    push(copy, workflows=DRIFT, variables=VARIABLES)
    body = {
        "repo": copy.repo,
        "event": "drift",
        "payload": {"threshold": 3e-4, "unknown": "x", "flag": True},
        "idempotency_key": "one",
    }
    answer = api.ok("POST", "/api/v1/events", json=body)
    assert answer["state"] == "processed"
    made = {run["workflow"]: run for run in answer["runs"]}
    assert made["retrain"]["variables"]["threshold"] == "0.0003"
    assert "threshold" not in made["other"]["variables"]
    assert made["retrain"]["trigger"] == "event"
    again = api.ok("POST", "/api/v1/events", json=body)
    assert [r["name"] for r in again["runs"]] == [r["name"] for r in answer["runs"]], "the same event is one"
    nothing = api.ok("POST", "/api/v1/events", json={"repo": copy.repo, "event": "rain"})
    assert (nothing["state"], nothing["runs"]) == ("ignored", [])
    assert "its `on: event` is drift" in nothing["reason"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"event": ""}, 422),
        ({"event": "x" * 101}, 422),
        ({"event": "drift", "payload": {"a": {"b": 1}}}, 422),
        ({"event": "drift", "payload": {str(n): 1 for n in range(101)}}, 422),
        ({"event": "drift", "idempotency_key": "k" * 201}, 422),
    ],
)
def test_bad_events_are_refused(still: Api, body: dict[str, Any], status: int) -> None:
    answer = still.call("POST", "/api/v1/events", json={"repo": still.shared_repo(), **body})
    assert answer.status_code == status, answer.text
    unknown = still.call("POST", "/api/v1/events", json={"repo": "no/such", "event": "drift"})
    assert unknown.status_code == 404
