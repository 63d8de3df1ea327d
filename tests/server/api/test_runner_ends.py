"""What a runner may leave behind at the end of an attempt, and what is left of a runner that was removed."""

from __future__ import annotations

import json
import threading
from typing import Any

from served_api import Api, wait_for
from sqlmodel import Session

from dstack.providers.base import ResolvedWorkflow
from dstack.providers.exchange import WORKFLOW_ENV, dump_workflow
from dstack.server.services.register_runner import remove_runner
from dstack.server.store.runners import runner_by_name
from dstack.wire.job import Command, Job


def test_an_end_that_may_not_be_told_leaves_nothing_on_the_disk(api: Api) -> None:
    held, other = api.attempt(), api.runner()
    held.end()
    logs = api.wiring.settings.data / "logs"
    before = sorted(logs.rglob("*"))
    for attempt in (held.attempt, "no-such-attempt"):
        path = f"/api/v1/attempts/{attempt}/finish"
        assert other.call("POST", path, json={"state": "failed"}).status_code == 404
    assert sorted(logs.rglob("*")) == before


def test_a_provider_may_answer_with_a_long_list_of_jobs(api: Api) -> None:
    held = api.attempt(
        Job((Command("true"),), env={WORKFLOW_ENV: dump_workflow(ResolvedWorkflow("train", "own"))}, expects_jobs=True)
    )
    jobs = [
        {"name": f"job-{n}", "commands": [{"shell": f"echo {'x' * 8000}"}], "resources": {"labels": ["nobody"]}}
        for n in range(250)
    ]
    held.end(jobs=json.dumps(jobs))
    assert len(api.get_run(held.run)["jobs"]) == 251


def test_a_runner_removed_while_it_asks_stays_removed(api: Api) -> None:
    runner = api.runner()
    db = api.wiring.db
    entered, go_on = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        entered.set()
        assert go_on.wait(10)

    def remove(session: Session) -> None:
        row = runner_by_name(session, runner.name)
        assert row is not None
        remove_runner(session, row)

    statuses: list[int] = []
    body: dict[str, Any] = {"capacity": runner.capacity, "wait_s": 0}
    asking = threading.Thread(
        target=lambda: statuses.append(runner.call("POST", "/api/v1/runner/poll", json=body).status_code)
    )
    held = db.submit(hold)
    assert entered.wait(10)
    removed = db.submit(remove)
    asking.start()
    wait_for(lambda: db._units.qsize() >= 2)  # the poll was let in and waits for the writer, behind the removal
    go_on.set()
    asking.join(10)
    held.result(10), removed.result(10)
    assert statuses == [401]
    assert runner.name not in {known["name"] for known in api.ok("GET", "/api/v1/runners")}
