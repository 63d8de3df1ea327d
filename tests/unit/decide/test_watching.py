"""Which of the forge's answers are news."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dstack.server.decide.resting import has_rested, rest_after
from dstack.server.decide.watching import (
    KEPT_S,
    KnownPull,
    closed_pulls,
    comments_to_read,
    look_every,
    not_arrived,
    pull_news,
    read_log_from,
)
from dstack.server.gateways.forge_facts import ForgeComment, PullFacts, SentDelivery

PULL = PullFacts(7, "t", "ada", "a" * 40, "topic", "acme/vision", False, "main", "b" * 40, False, True, 100.0)
KNOWN = KnownPull("a" * 40, "main", True, False)


@pytest.mark.parametrize(
    ("found", "known", "action"),
    [
        (PULL, None, "opened"),
        (PULL, KNOWN, ""),
        (PULL, replace(KNOWN, is_open=False), "reopened"),
        (PULL, replace(KNOWN, head_sha="c" * 40), "synchronize"),
        (PULL, replace(KNOWN, base_branch="dev"), "edited"),
        (PULL, replace(KNOWN, is_draft=True), "ready_for_review"),
        (replace(PULL, is_draft=True), KNOWN, "converted_to_draft"),
    ],
)
def test_pull_requests(found: PullFacts, known: KnownPull | None, action: str) -> None:
    news = pull_news([found], {7: known} if known else {})
    assert news == ([(action, found)] if action else [])


def test_pull_requests_that_were_closed_unheard() -> None:
    assert closed_pulls([PULL], [9, 7, 8]) == [8, 9]


def sent(number: int, guid: str, status: int, at: float = 10.0) -> SentDelivery:
    return SentDelivery(number, guid, "push", at, status)


def test_deliveries_that_reached_us_in_no_attempt() -> None:
    log = [
        sent(1, "a", 200), sent(2, "b", 502, at=5), sent(3, "b", 202), sent(4, "c", 0, at=9), sent(5, "c", 500, at=8),
        sent(6, "d", 500, at=7), sent(7, "young", 500, at=99), sent(8, "here", 500),
    ]  # fmt: skip
    found = not_arrived(log, {"here"}, before=50)
    assert [one.guid for one in found] == ["d", "c"]


@pytest.mark.parametrize(
    ("begun", "read", "since"),
    [
        (1_000_000.7, 1_000_000.7, 1_000_000),
        (1_000_000, 1_000_050, 1_000_000),
        (1_000_000, 1_900_000, 1_899_880),
        (1_000_000, 1_500_000, 2_000_000 - KEPT_S),
    ],
    ids=["at first", "soon after", "where it ended", "longer ago than GitHub keeps"],
)
def test_the_log_is_read_on_from_where_it_was_read_to(begun: float, read: float, since: float) -> None:
    assert read_log_from(begun, read, 2_000_000 if read > 1_100_000 else read + 15) == since


def test_of_a_long_absence_nothing_is_left_out() -> None:
    log = [sent(n, f"guid-{n}", 502, at=n) for n in range(2000)]
    assert len(not_arrived(log, (), before=5000)) == 2000


def test_comments_of_people_as_they_wrote_them() -> None:
    good = ForgeComment(1, 7, "ada", "/dstack run train", 10.0)
    others = [replace(good, is_bot=True), replace(good, is_edited=True), replace(good, body="nice")]
    assert comments_to_read([good, *others]) == [good]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 60), (2, 120), (3, 240), (7, 3600), (5000, 3600)])
def test_what_fails_again_rests_longer(failures: int, seconds: float) -> None:
    assert rest_after(failures) == seconds
    assert rest_after(failures, will_pass=True) == 60


@pytest.mark.parametrize(
    ("failed", "now", "rested"),
    [
        (103, 160, False),
        (103, 163, True),
        (400, 500, False),
        (400, 700, True),
        (90_000, 93_000, False),
        (90_000, 93_600, True),
    ],
)
def test_it_rests_for_as_long_as_it_has_been_tried(failed: float, now: float, rested: bool) -> None:
    assert has_rested(100, failed, now) is rested


@pytest.mark.parametrize(
    ("mode", "repos", "seconds"), [("poll", 1, 15), ("poll", 5, 15), ("poll", 100, 288), ("webhook", 1, 180)]
)
def test_many_repositories_are_looked_at_less_often(mode: str, repos: int, seconds: float) -> None:
    assert look_every(mode, repos) == seconds
