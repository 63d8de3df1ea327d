"""Which run is the base, and what a gate says against it."""

from __future__ import annotations

import pytest

from dstack.server.decide.base import (
    HISTORY,
    BaseChoice,
    Beginning,
    Candidate,
    beginning_of,
    choose_base,
)
from dstack.server.decide.verdict import LETS_PASS, BaseFacts, Judgement, Surroundings, judge, tags_named
from dstack.wire.states import JobState, Trigger, Verdict

DONE, FAILED, RUNS, WAITS = JobState.SUCCEEDED, JobState.FAILED, JobState.RUNNING, JobState.WAITING
STOPPED = JobState.STOPPED
LINE = ("e", "d", "c", "b", "a")


@pytest.mark.parametrize(
    ("trigger", "base_branch", "beginning"),
    [
        (Trigger.PULL_REQUEST, "main", Beginning("main")),
        (Trigger.PULL_REQUEST, "release", Beginning("release")),
        (Trigger.COMMENT, "release", Beginning("release")),
        (Trigger.PUSH, "", Beginning(is_before=True)),
        (Trigger.PUSH, "main", Beginning("main")),  # of a merge group
        (Trigger.MANUAL, "", Beginning()),
        (Trigger.SCHEDULE, "", Beginning()),
        (Trigger.TAG_MOVED, "", Beginning()),
        (Trigger.EVENT, "", Beginning()),
    ],
)
def test_where_a_line_begins(trigger: Trigger, base_branch: str, beginning: Beginning) -> None:
    assert beginning_of(trigger, base_branch) == beginning


def candidates(*runs: tuple[int, str, JobState]) -> list[Candidate]:
    return [Candidate(number, sha, state, number) for number, sha, state in runs]


@pytest.mark.parametrize(
    ("runs", "choice"),
    [
        ([], BaseChoice()),
        ([(1, "x", DONE)], BaseChoice()),  # not of the line
        ([(1, "a", DONE), (2, "c", DONE)], BaseChoice(2, False, (2, 1))),
        ([(2, "a", DONE), (1, "c", DONE)], BaseChoice(1, False, (1, 2))),  # nearest, not newest
        ([(1, "c", DONE), (2, "c", DONE)], BaseChoice(2, False, (2, 1))),  # a retry counts
        ([(1, "c", FAILED), (2, "b", DONE)], BaseChoice(2, False, (2,))),
        ([(1, "c", STOPPED), (2, "c", FAILED)], BaseChoice()),
        ([(1, "c", DONE), (2, "c", FAILED)], BaseChoice(1, False, (1,))),
        ([(1, "b", DONE), (2, "d", RUNS)], BaseChoice(2, True, (1,))),
        ([(1, "b", DONE), (2, "d", WAITS), (3, "d", RUNS)], BaseChoice(3, True, (1,))),
        ([(1, "d", DONE), (2, "d", RUNS)], BaseChoice(1, False, (1,))),  # what is there is not waited for
        ([(1, "d", DONE), (2, "b", RUNS)], BaseChoice(1, False, (1,))),  # older ones are not either
        ([(1, "d", FAILED), (2, "d", RUNS)], BaseChoice(2, True, ())),
        ([(1, "d", RUNS)], BaseChoice(1, True, ())),
    ],
)
def test_which_run_is_the_base(runs: list[tuple[int, str, JobState]], choice: BaseChoice) -> None:
    assert choose_base(LINE, candidates(*runs)) == choice
    assert choose_base(LINE, candidates(*reversed(runs))) == choice


def test_the_history_is_short_and_holds_each_piece_of_work_once() -> None:
    many = candidates(*[(number, "e", DONE) for number in range(1, 9)])
    assert choose_base(LINE, many).history == (8, 7, 6, 5, 4)[:HISTORY]
    adopted = [Candidate(3, "d", DONE, 1), Candidate(2, "c", DONE, 1), Candidate(1, "b", DONE, 1)]
    assert choose_base(LINE, adopted) == BaseChoice(3, False, (3,))


def test_own_work_is_passed_over_where_asked() -> None:
    runs = [Candidate(3, "d", DONE, 2), Candidate(2, "c", DONE, 2), Candidate(1, "b", DONE, 1)]
    assert choose_base(LINE, runs, own_work=2) == BaseChoice(1, False, (1,))
    assert choose_base(LINE, runs, own_work=4) == BaseChoice(3, False, (3, 1))


BASE = BaseFacts("brave-otter-17", {"accuracy": 0.922})
TRAINS = BaseFacts("brave-otter-17", None)
NOISY = [{"accuracy": value} for value in (0.922, 0.926, 0.918)]


@pytest.mark.parametrize(
    ("gate", "accuracy", "around", "judgement"),
    [
        ("accuracy >= base - 0.01", 0.934, Surroundings(BASE),
         Judgement(Verdict.PASSED, "accuracy 0.934 >= base 0.922 - 0.01")),
        ("accuracy >= base - 0.01", 0.9, Surroundings(BASE),
         Judgement(Verdict.FAILED, "accuracy 0.9 < base 0.922 - 0.01")),
        ("accuracy >= base - 0.01", 0.911, Surroundings(BASE, NOISY),
         Judgement(Verdict.WITHIN_NOISE, "accuracy 0.911 < base 0.922 - 0.01, within the noise of the base (0.004)")),
        ("accuracy >= base - 0.01", 0.911, Surroundings(BASE, NOISY[:2]),
         Judgement(Verdict.FAILED, "accuracy 0.911 < base 0.922 - 0.01")),
        ("accuracy >= base - 0.01", 0.9, Surroundings(), Judgement(Verdict.NO_BASE, "first result")),
        ("accuracy >= base - 0.01", 0.9, Surroundings(TRAINS, NOISY),
         Judgement(Verdict.PENDING, "base brave-otter-17 still runs")),
        ("accuracy >= 0.95 and accuracy >= base", 0.9, Surroundings(TRAINS),
         Judgement(Verdict.FAILED, "accuracy 0.9 < 0.95")),
        ("accuracy >= base.mean - 0.01", 0.9, Surroundings(TRAINS, NOISY),
         Judgement(Verdict.PENDING, "base brave-otter-17 still runs")),
        ("f1 >= base", 0.9, Surroundings(TRAINS), Judgement(Verdict.FAILED, "the run has no metric f1")),
        ('accuracy >= tag("prod")', 0.9, Surroundings(None, (), {"prod": {"accuracy": 0.8}}),
         Judgement(Verdict.PASSED, "accuracy 0.9 >= tag prod 0.8")),
        ('accuracy >= tag("prod")', 0.9, Surroundings(BASE),
         Judgement(Verdict.NO_BASE, "no run carries the tag prod yet")),
        ("accuracy / (accuracy - accuracy) > 1", 0.9, Surroundings(BASE), Judgement(
            Verdict.FAILED, "accuracy 0.9 / (accuracy 0.9 - accuracy 0.9) > 1 cannot be calculated")),
        ("accuracy >", 0.9, Surroundings(BASE), Judgement(Verdict.FAILED, '"accuracy >" ends too early')),
    ],
)  # fmt: skip
def test_what_a_gate_says(gate: str, accuracy: float, around: Surroundings, judgement: Judgement) -> None:
    assert judge(gate, {"accuracy": accuracy}, around) == judgement


def test_which_verdicts_let_a_tag_move() -> None:
    assert {Verdict.PASSED, Verdict.WITHIN_NOISE, Verdict.NO_BASE} == LETS_PASS


@pytest.mark.parametrize(
    ("gate", "tags"),
    [(None, ()), ("a > base", ()), ('a > tag("p") and b > tag("q") or a < tag("p")["b"]', ("p", "q")), ("a >", ())],
)
def test_which_tags_a_gate_asks_about(gate: str | None, tags: tuple[str, ...]) -> None:
    assert tags_named(gate) == tags
