"""Offers whose acceptance is not answered, or answered with a refusal: asked for again, left, or given back at once."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from runner_server import RUNNER_TOKEN, FakeAttempt, FakeServer, until
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dstack.wire.job import Command, Job
from dstack.wire.states import AttemptState, Reason
from dstack_runner import server as calls
from dstack_runner.lease import LeaseKeeper
from dstack_runner.server import Server


class Accepts:
    """Counts the calls for acceptance, and answers them as a test wants; None lets the server answer."""

    def __init__(self, server: FakeServer, answer: Callable[[int], Response | None]) -> None:
        self.at: list[float] = []
        self._answer = answer
        server.answer = self._play

    def _play(self, request: Request) -> Response | None:
        if not request.url.path.endswith("/accept"):
            return None
        self.at.append(time.monotonic())
        return self._answer(len(self.at))


def refusal(status: int, code: str) -> Response:
    return JSONResponse({"error": code, "message": "a fault of the test"}, status_code=status)


@pytest.fixture
def attempt(server: FakeServer) -> FakeAttempt:
    return server.put(Job(commands=(Command(shell="echo done"),)), server.commit({"a": "1"}))


def ended(attempt: FakeAttempt) -> FakeAttempt:
    until(lambda: attempt.finish is not None, what="the attempt ends")
    return attempt


def test_an_acceptance_is_asked_for_until_it_is_answered(
    server: FakeServer, attempt: FakeAttempt, start_runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LONGEST_DELAY_S", 0.3)
    accepts = Accepts(server, lambda count: refusal(503, "unavailable") if count <= 9 else None)
    start_runner()
    assert ended(attempt).finish is not None and attempt.finish.state is AttemptState.SUCCEEDED
    assert len(accepts.at) == 10


@pytest.mark.parametrize(("status", "code"), [(409, "lease_lost"), (409, "conflict"), (404, "not_found")])
def test_an_offer_that_is_over_is_left_at_once_and_nothing_is_told(
    server: FakeServer, attempt: FakeAttempt, start_runner, status: int, code: str
) -> None:
    accepts = Accepts(server, lambda count: refusal(status, code))
    running = start_runner()
    until(lambda: accepts.at and not running.runner.live.names, what="the offer is let go")
    assert (len(accepts.at), attempt.finishes) == (1, 0)


@pytest.mark.parametrize("answer", [refusal(400, "malformed"), Response("{}", media_type="application/json")])
def test_an_order_that_cannot_be_had_is_given_back_at_once(
    server: FakeServer, attempt: FakeAttempt, start_runner, answer: Response
) -> None:
    """It may be accepted already: told so, the server gives it to somebody else and waits for no lease."""
    accepts = Accepts(server, lambda count: answer)
    start_runner()
    finish = ended(attempt).finish
    assert finish is not None and (finish.state, finish.machine_fault) == (AttemptState.FAILED, True)
    assert len(accepts.at) == 1


def test_a_stop_meanwhile_ends_it_at_once(
    server: FakeServer, attempt: FakeAttempt, start_runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "FIRST_DELAY_S", 60.0)
    accepts = Accepts(server, lambda count: refusal(503, "unavailable"))
    running = start_runner()
    until(lambda: accepts.at, what="the offer is accepted")
    server.ask_stop(attempt)
    finish = ended(attempt).finish
    assert finish is not None and (finish.state, finish.reason) == (AttemptState.STOPPED, Reason.CANCELED_BY)
    until(lambda: not running.runner.live.names, what="the offer is let go")


def test_a_runner_that_must_leave_while_nobody_answers_leaves(
    server: FakeServer, attempt: FakeAttempt, start_runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "FIRST_DELAY_S", 60.0)
    accepts = Accepts(server, lambda count: refusal(503, "unavailable"))
    running = start_runner()
    until(lambda: accepts.at, what="the offer is accepted")
    server.stop()
    running.leave()
    assert attempt.finish is None


def test_a_lease_that_waited_for_its_order_is_renewed_at_once(server: FakeServer, attempt: FakeAttempt) -> None:
    """Most of its term may be over: the next round of renewals could come too late."""
    keeper = LeaseKeeper(Server(server.url, RUNNER_TOKEN), lambda stop: None, offline_limit_s=60, every_s=30)
    keeper.start()
    keeper.hold(attempt.order.attempt, attempt.lease, 600, begun_at=time.monotonic() - 40)
    until(lambda: attempt.renewals, 10, "the lease is renewed")
    keeper.close()
