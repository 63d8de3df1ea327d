"""What `dstack lint` says of gates that no run can pass, that no run can change, or that a slow decline passes."""

from __future__ import annotations

import pytest

from dstack.language.read_project import read_project

PROVIDERS = b"providers: [{name: sweep, commands: python sweep.py}]\n"


def said_of(gate: str, *more: str, provider: str = "bash, commands: ls", on: str = "pull_request") -> list[str]:
    keys = "".join(f", {line}" for line in (*more, *([f"on: {on}"] if on else [])))
    text = f"workflows:\n  - {{name: train, provider: {provider}, gate: '{gate}'{keys}}}\n"
    project = read_project({".dstack/workflows.yaml": text.encode(), ".dstack/providers.yaml": PROVIDERS})
    assert project.problems == ()
    return [str(warning) for warning in project.warnings]


LOG = "metrics: {log: {accuracy: 'acc ([0-9.]+)', val/loss: 'loss ([0-9.]+)'}}"


@pytest.mark.parametrize(
    ("gate", "more"),
    [
        ("accuracy > 0.9", ("metrics: metrics.json",)),
        ("accuracy > 0.9", ("metrics: {file: m.csv, log: {loss: 'x (.)'}}",)),
        ("accuracy >= base - 0.01", (LOG,)),
        ('metric["val/loss"] < 1 and accuracy > tag("prod")', (LOG,)),
        ('accuracy > base["recall"]', (LOG,)),  # of another run: there it may be
    ],
)
def test_nothing_is_said_where_a_run_could_pass(gate: str, more: tuple[str, ...]) -> None:
    assert said_of(gate, *more) == []


@pytest.mark.parametrize("more", [(), ("metrics: {headline: accuracy}",)])
def test_a_gate_without_metrics_names_what_is_missing_and_where(more: tuple[str, ...]) -> None:
    (warning,) = said_of("accuracy > 0.9 or recall > base", *more)
    assert warning == (
        ".dstack/workflows.yaml:2:49: train.gate: the workflow says nowhere how to find accuracy, recall, "
        "so no run passes; add `metrics: metrics.json`, a file that its command writes"
    )


def test_a_name_that_no_pattern_has_is_told_with_the_nearest() -> None:
    (warning,) = said_of("acuracy > 0.9 and accuracy < 1", LOG)
    assert "train.gate: the workflow has no metric acuracy, so no run passes" in warning
    assert 'did you mean "accuracy"?' in warning


@pytest.mark.parametrize("gate", ["1 < 2", 'base["accuracy"] > 0.5', 'tag("prod")["accuracy"] > base'])
def test_a_gate_that_does_not_look_at_the_run_is_told(gate: str) -> None:
    (warning,) = said_of(gate, "metrics: metrics.json")
    assert "it names no metric of the run itself" in warning


def test_of_a_custom_provider_nothing_is_known() -> None:
    assert said_of("accuracy > 0.9", provider="sweep") == []


@pytest.mark.parametrize(
    ("gate", "on", "is_told"),
    [
        ("accuracy > base", "", True),  # every push
        ("accuracy > base.mean - base.std", "push", True),
        ("accuracy > base", "{push: {branches: [main, 'feature/**']}}", True),
        ("accuracy > base", "{push: {branches-ignore: [main]}}", True),
        ("accuracy > base", "[push, pull_request]", False),
        ("accuracy > base", "{push: {branches: [main]}}", False),
        ("accuracy > base", "{push: {tags: ['v*']}}", False),
        ("accuracy > base", "{schedule: {cron: '0 3 * * *'}}", False),
        ("accuracy > 0.9", "", False),
        ('accuracy > tag("prod")', "", False),
    ],
)
def test_a_branch_that_is_compared_with_itself_is_told(gate: str, on: str, is_told: bool) -> None:
    said = [warning for warning in said_of(gate, LOG, on=on) if "gets worse step by step" in warning]
    assert len(said) == is_told
    assert not said or "on: pull_request" in said[0]
