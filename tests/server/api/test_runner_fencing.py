"""Runners against the doors of attempts that are not theirs, not theirs any more, or over; offers and their end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from served_api import Api, Held, manifest_of, serve, sha256, wait_for
from sqlmodel import select

from dstack.server.asgi import ALL_OPERATIONS
from dstack.server.models import Artifact, Attempt, JobRow, Metric
from dstack.wire.job import Command, Job, Retry
from dstack.wire.pack import MAGIC, pack_end, pack_record
from dstack.wire.runner import LEASE_S, OFFER_S

BLOB = b"weights"
PACK = MAGIC + pack_record(sha256(BLOB), BLOB) + pack_end(1)
EMPTY_MANIFEST = manifest_of({}).encode().decode()

# A valid call of every verb of an attempt.
VERBS: dict[str, dict[str, Any]] = {
    "POST accept": {},
    "POST state": {"json": {"state": "running"}},
    "POST metrics": {"json": {"offset": 0, "points": [{"name": "loss", "value": 1.0}]}},
    "PUT log?offset=0": {"data": b"forged\n"},
    "POST blobs/missing": {"json": {"digests": [sha256(BLOB)]}},
    f"PUT blobs/{sha256(BLOB)}": {"data": BLOB},
    "PUT packs": {"data": PACK},
    "POST artifacts": {"json": {"path": "model", "manifest": EMPTY_MANIFEST}},
    f"GET manifests/{sha256(BLOB)}": {},
    f"GET blobs/{sha256(BLOB)}": {},
    "POST packs/read": {"json": {"digests": [sha256(BLOB)]}},
    "POST finish": {"json": {"state": "succeeded", "exit_code": 0}},
}
WRITES = [verb for verb in VERBS if verb != "POST accept"]


def test_every_verb_of_an_attempt_is_tried_here() -> None:
    def shape(verb: str) -> str:
        method, _, path = verb.partition(" ")
        return f"{method} {path.partition('?')[0].replace(sha256(BLOB), '{digest}')}"

    prefix = "/api/v1/attempts/{attempt}/"
    doors = {f"{o.method} {o.path.removeprefix(prefix)}" for o in ALL_OPERATIONS if o.path.startswith(prefix)}
    assert {shape(verb) for verb in VERBS} == doors


def facts(held: Held) -> list[object]:
    """Everything an attempt could change."""
    wiring = held.runner.api.wiring

    def query(session: Any) -> list[object]:
        attempt = session.get(Attempt, held.attempt)
        job = session.get(JobRow, attempt.job_id)
        metrics = session.exec(select(Metric).where(Metric.attempt_id == held.attempt)).all()
        artifacts = session.exec(select(Artifact).where(Artifact.attempt_id == held.attempt)).all()
        return [attempt.model_dump(), job.model_dump(), [m.model_dump() for m in metrics], [a.path for a in artifacts]]

    return [wiring.logs.size(held.attempt), *wiring.db.read(query)]


def send(held: Held, verb: str, **more: Any) -> Any:
    method, _, path = verb.partition(" ")
    return held.call(method, path, **VERBS[verb], **more)


@pytest.fixture(scope="module")
def held(api: Api) -> Held:
    held = api.attempt()
    held.state("running")
    return held


@pytest.mark.parametrize("verb", VERBS)
def test_another_runner_finds_nothing(api: Api, held: Held, verb: str) -> None:
    """B61: with the right lease and with a wrong one, as if there were no such attempt."""
    other = api.runner()
    before = facts(held)
    for lease in (held.lease, "", "wrong"):
        answer = send(held, verb, token=other.token, lease=lease)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    absent = Held(other, held.run, "0" * 20, held.lease, {})
    missing = send(absent, verb)
    if verb != "POST accept":
        assert (missing.status_code, missing.json()["message"]) == (404, answer.json()["message"])
    assert facts(held) == before


@pytest.mark.parametrize("verb", WRITES)
def test_a_stale_or_missing_lease_changes_nothing(api: Api, held: Held, verb: str) -> None:
    """B62."""
    other = api.attempt()
    before = facts(held)
    for lease in ("", "wrong", other.lease, held.lease + "x", held.lease[:-1]):
        answer = send(held, verb, lease=lease)
        assert (answer.status_code, answer.json()["error"]) == (409, "lease_lost"), lease
    assert facts(held) == before


@pytest.fixture(scope="module", params=["ended", "lost"])
def over(api: Api, request: pytest.FixtureRequest) -> Held:
    held = api.attempt(Job((Command("true"),), retry=Retry(limit=0)))
    if request.param == "ended":
        held.end("failed", reason="exit_code", exit_code=3)
    else:
        held.state("running")

        def take_away(session: Any) -> None:
            attempt = session.get(Attempt, held.attempt)
            attempt.lease_until = 0
            session.add(attempt)

        api.wiring.db.write(take_away)
        api.expire_leases()
        assert held.job["reason"] == "runner_lost"
    return held


@pytest.mark.parametrize("verb", VERBS)
def test_after_the_end_every_write_is_refused(over: Held, verb: str) -> None:
    """B63: the end stays as it was; the runner learns that it must stop."""
    before = facts(over)
    answer = send(over, verb)
    assert (answer.status_code, answer.json()["error"]) == (409, "lease_lost")
    assert facts(over) == before


def test_a_renewal_names_what_is_held_and_what_is_lost(api: Api) -> None:
    runner = api.runner()
    mine, over = api.attempt(runner=runner), api.attempt(runner=runner)
    others = api.attempt()
    over.end()
    leases = {h.attempt: h.lease for h in (mine, over, others)} | {"0" * 20: "x"}
    answer = runner.call("POST", "/api/v1/runner/renew", json={"leases": leases})
    renewed = answer.json()
    assert renewed["held"] == [mine.attempt] and renewed["lease_s"] == LEASE_S
    assert {s["attempt"] for s in renewed["stops"]} == {over.attempt, others.attempt, "0" * 20}
    assert all(s["lost"] for s in renewed["stops"])
    wrong = runner.call("POST", "/api/v1/runner/renew", json={"leases": {mine.attempt: "wrong"}}).json()
    assert wrong["held"] == [] and wrong["stops"][0]["lost"]


def test_a_stop_reaches_the_runner_and_names_its_grace(api: Api) -> None:
    held = api.attempt()
    held.state("running")
    stopping = api.ok("POST", f"/api/v1/runs/{held.run}/stop", json={})
    assert stopping["state"] == "running"
    stop = held.runner.poll()["stops"][0]
    assert stop == {"attempt": held.attempt, "reason": "canceled_by", "grace_s": 10, "lost": False}
    renewed = held.runner.call("POST", "/api/v1/runner/renew", json={"leases": {held.attempt: held.lease}}).json()
    assert renewed["held"] == [held.attempt] and renewed["stops"] == [stop]
    held.ok("POST", "finish", json={"state": "stopped", "reason": "canceled_by"})
    assert (held.job["state"], held.job["reason"]) == ("stopped", "canceled_by")


def test_the_end_may_be_told_twice_but_not_changed(api: Api) -> None:
    held = api.attempt()
    held.end(metrics={"accuracy": 0.5})
    before = facts(held)
    assert held.finish("succeeded", metrics={"accuracy": 0.1}).status_code == 204
    assert held.finish("failed", reason="exit_code", exit_code=1).status_code == 409
    assert held.call("POST", "finish", json={"state": "succeeded"}, lease="wrong").status_code == 409
    assert facts(held) == before
    assert api.get_run(held.run)["metrics"] == {"accuracy": 0.5}


# Offers


@pytest.fixture
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server whose clock a test may move."""
    with serve(tmp_path_factory.mktemp("apart")) as api:
        yield api


def test_accepting_twice_is_one_attempt_and_the_same_order(api: Api) -> None:
    runner = api.runner()
    run = api.run(runner.only())
    offer = runner.offer(run)
    path = f"/api/v1/attempts/{offer['attempt']}/accept"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: runner.call("POST", path), range(4)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.text for a in answers}) == 1
    assert answers[0].json()["number"] == 1
    assert api.get_run(run)["jobs"][0]["attempt"] == 1


def test_an_offer_is_told_to_its_runner_alone(api: Api) -> None:
    mine, other = api.runner(), api.runner()
    run = api.run(mine.only())
    offer = mine.offer(run)
    assert other.poll()["offers"] == []
    refused = other.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
    assert (refused.status_code, refused.json()["error"]) == (404, "not_found")
    assert mine.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept").status_code == 200


def test_an_offer_runs_out_and_is_made_anew(apart: Api) -> None:
    runner = apart.runner()
    run = apart.run(runner.only())
    offer = runner.offer(run)
    apart.pass_time(OFFER_S + 1)
    again = wait_for(lambda: next((o for o in runner.poll(1)["offers"] if o["attempt"] != offer["attempt"]), None))
    assert again["run"] == run
    late = runner.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
    assert (late.status_code, late.json()["error"]) == (409, "lease_lost")
    assert runner.call("POST", f"/api/v1/attempts/{again['attempt']}/accept").json()["number"] == 1


def test_a_lease_that_runs_out_fences_the_old_attempt_off(apart: Api) -> None:
    """The zombie's writes are refused while the second attempt goes on (I3)."""
    runner = apart.runner()
    first = apart.attempt(runner=runner)
    first.state("running")
    apart.pass_time(LEASE_S + 1)
    second = runner.take(first.run)
    assert second.order["number"] == 2 and second.lease != first.lease
    for verb in VERBS:
        assert send(first, verb).status_code == 409, verb
    assert send(second, "PUT log?offset=0", lease=first.lease).status_code == 409
    second.end()
    assert (second.job["state"], second.job["attempt"]) == ("succeeded", 2)


def test_a_stopped_offer_cannot_be_accepted(api: Api) -> None:
    runner = api.runner()
    run = api.run(runner.only())
    offer = runner.offer(run)
    assert api.ok("POST", f"/api/v1/runs/{run}/stop", json={})["state"] == "stopped"
    late = runner.call("POST", f"/api/v1/attempts/{offer['attempt']}/accept")
    assert (late.status_code, late.json()["error"]) == (409, "lease_lost")
    assert api.get_run(run)["state"] == "stopped"


def test_stopping_twice_and_after_the_end(api: Api) -> None:
    run = api.run()
    assert api.call("POST", f"/api/v1/runs/{run}/stop", json={}).status_code == 200
    again = api.call("POST", f"/api/v1/runs/{run}/stop", json={})
    assert (again.status_code, again.json()["error"]) == (409, "conflict")


@pytest.mark.parametrize("change", ["stop", "finish"])
def test_a_stop_and_an_end_at_once_have_one_winner(api: Api, change: str) -> None:
    held = api.attempt()
    held.state("running")
    acts = [lambda: api.call("POST", f"/api/v1/runs/{held.run}/stop", json={}), lambda: held.finish()]
    if change == "finish":
        acts.reverse()
    with ThreadPoolExecutor(2) as pool:
        first, second = [f.result() for f in [pool.submit(act) for act in acts]]
    assert {first.status_code, second.status_code} <= {200, 204, 409}
    assert held.job["state"] in ("succeeded", "stopped")
    assert api.get_run(held.run)["state"] == held.job["state"]
