"""Runs for the page tests: the same ones with friendly or with hostile words in every place a person may fill."""

from __future__ import annotations

from dataclasses import replace

from dstack.server.web.render.models import (
    ArtifactData,
    AttemptData,
    InputData,
    Neighbour,
    Provenance,
    Refusal,
    RunData,
    RunRow,
)
from dstack.wire.api import ArtifactFile, ArtifactView, DeviceView, JobView, RunnerView, RunView, TagView

SHA = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "ab" * 32


def a_run(name: str = "brave-otter-17", **changes: object) -> RunView:
    """A running run of `train`; changes replace its fields."""
    run = RunView(
        name=name, group="g1", needs=[], repo="ada/digits", workflow="train", state="running", reason="", sha=SHA,
        branch="main", trigger="push", variables={}, metrics={}, verdict=None, tags=[],
        created_at="2026-03-01T11:50:00Z", started_at="2026-03-01T11:51:00Z", finished_at=None, restarted_from=None,
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def a_page(run: RunView, **changes: object) -> RunData:
    """What the page of `run` shows; `subject` and `previous` go to its row."""
    row = {
        key: changes.pop(key)
        for key in ("subject", "author", "better", "previous", "pull_url", "commit_url", "is_held")
        if key in changes
    }
    return RunData(RunRow(run, **row), **changes)  # type: ignore[arg-type]


def worded(word: str) -> tuple[RunData, RunData]:
    """A failed run and the run it needed, with `word` wherever a repository, a job or a runner can put text."""
    artifact = ArtifactView(word, DIGEST, 2048, 2, id="a1")
    job = JobView(word, "failed", "exit_code", 2, word, 3, [artifact], "j1", word)
    run = a_run(
        "hostile-run-1", repo=word, workflow=word, state="failed", reason="exit_code", branch=word,
        variables={word: word},
        metrics={word: 0.5, "loss": 1.0}, headline=word, verdict="failed", verdict_why=word, base_run=word, gate=word,
        tags=[word], pull_request=7, same_as=word,
        finished_at="2026-03-01T11:55:00Z",
        restarted_from="older-run-9", needs=["needed-run-2"], jobs=[job],
    )  # fmt: skip
    data = a_page(
        run, subject=word, author=word, previous={word: 0.25},
        attempts=[
            AttemptData("t1", word, 1, "lost", "runner_lost", word, word, None, "", "2026-03-01T11:51:00Z"),
            AttemptData("t2", word, 2, "failed", "exit_code", word, word, 3, word, "2026-03-01T11:52:00Z"),
        ],
        group=[
            Neighbour("needed-run-2", word, "succeeded"),
            Neighbour("hostile-run-1", word, "failed", ["needed-run-2"]),
        ],
        inputs=[InputData(word, word, "needed-run-2", DIGEST), InputData(word, word)],
        series={word: [(1, 0.1), (2, 0.5)]}, previous_run="older-run-8",
        provenance=Provenance([(word, word)]), restarted_as=["newer-run-3"],
        pull_title=word, scheduled_at="2026-03-01T11:49:00Z", refused=[Refusal(word, word), Refusal(word, word, True)],
        pull_url="https://github.com/ada/digits/pull/7", commit_url=f"https://github.com/ada/digits/commit/{SHA}",
    )  # fmt: skip
    needed = a_page(
        a_run("needed-run-2", state="queued", reason=word, repo=word, workflow=word, branch=word), subject=word
    )
    return data, needed


def worded_tags(word: str) -> list[TagView]:
    return [
        TagView(
            word, word, "hostile-run-1", SHA, "2026-03-01T11:00:00Z", word, [ArtifactView(word, DIGEST, 1, 1, "a1")]
        )
    ]


def worded_runners(word: str) -> list[RunnerView]:
    devices = [DeviceView("0", word, 1 << 34, busy=word), DeviceView("1", word, 1 << 34, job="hostile-run-1")]
    return [
        RunnerView(
            word, "online", 8, 1 << 35, 2, [word], devices, ["hostile-run-1"], "2026-03-01T11:59:58Z", word, True
        )
    ]


def worded_artifact(word: str) -> ArtifactData:
    files = [ArtifactFile(word, 12, DIGEST), ArtifactFile("link", 0, "", target=word)]
    return ArtifactData(ArtifactView(word, DIGEST, 12, 2, "a1"), "hostile-run-1", files, [word])
