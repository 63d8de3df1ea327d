"""The whole loop as a person lives it: push, train, tag, push again."""

from __future__ import annotations

from collections.abc import Callable

from installation import Repository, Site
from machines import until

from dstack.git.notes import parse

WORKFLOWS = """
workflows:
  - name: prepare
    provider: bash
    commands:
      - mkdir data && echo "rows of $DSTACK_RUN" > data/rows.txt
    artifacts: [data]
    tag: latest
    on: push
    paths: [prepare.txt]
  - name: train
    provider: bash
    depends-on: [{needs}]
    commands:
      - cat data/rows.txt
      - |
        for epoch in 1 2 3; do echo "{{\\"step\\": $epoch, \\"loss\\": 0.$((4 - epoch))}}" >> $DSTACK_METRICS; done
        mkdir model && echo "weights of $EPOCHS" > model/weights
        echo '{{"accuracy": 0.75, "val": {{"loss": 0.5}}}}' > metrics.json
    metrics: metrics.json
    artifacts: [model]
    on: push
  - name: evaluate
    provider: bash
    depends-on: [train]
    commands: [cat model/weights]
    on: push
"""
VARIABLES = "variables: {train: {epochs: %d}}\n"


def by_workflow(site: Site, sha: str) -> dict[str, dict]:
    return {run["workflow"]: run for run in site.runs(sha=sha)}


def test_a_push_prepares_trains_and_evaluates_and_the_next_uses_the_tag(
    shared: Site, repository: Callable[..., Repository]
) -> None:
    tree = repository(shared)
    first = tree.commit(
        {
            ".dstack/workflows.yaml": WORKFLOWS.format(needs="prepare"),
            ".dstack/variables.yaml": VARIABLES % 3,
            "prepare.txt": "1",
        }
    )
    said = tree.push()
    runs = by_workflow(shared, first)
    assert set(runs) == {"prepare", "train", "evaluate"}
    assert all(run["name"] in said for run in runs.values())
    assert len({run["group"] for run in runs.values()}) == 1
    assert runs["train"]["needs"] == [runs["prepare"]["name"]]
    ended = {name: shared.wait(run["name"]) for name, run in runs.items()}
    assert {name: run["state"] for name, run in ended.items()} == dict.fromkeys(runs, "succeeded")
    assert ended["prepare"]["finished_at"] <= ended["train"]["started_at"]
    log = shared.log(runs["train"]["name"]).decode().splitlines()
    assert [line for line in log if not line.startswith("dstack: ")] == [f"rows of {runs['prepare']['name']}"]
    assert f"dstack: input data from prepare ({runs['prepare']['name']})" in log[0]
    assert ended["train"]["metrics"] == {"accuracy": 0.75, "val/loss": 0.5}
    steps = shared.ledger.rows(
        "SELECT name, step, value FROM metrics WHERE attempt_id = ? ORDER BY position",
        shared.attempts(runs["train"]["name"])[0]["id"],
    )
    assert [tuple(row) for row in steps] == [("loss", 1, 0.3), ("loss", 2, 0.2), ("loss", 3, 0.1)]
    assert ended["prepare"]["tags"] == ["latest"]
    assert [(a["path"], a["files"]) for a in ended["train"]["jobs"][0]["artifacts"]] == [("model", 1)]

    second = tree.commit(
        {".dstack/workflows.yaml": WORKFLOWS.format(needs="prepare:latest"), ".dstack/variables.yaml": VARIABLES % 9}
    )
    tree.push()
    runs = by_workflow(shared, second)
    assert set(runs) == {"train", "evaluate"}
    ended = {name: shared.wait(run["name"]) for name, run in runs.items()}
    assert {name: run["state"] for name, run in ended.items()} == dict.fromkeys(runs, "succeeded")
    assert f"rows of {by_workflow(shared, first)['prepare']['name']}\n".encode() in shared.log(runs["train"]["name"])
    assert b"weights of 9\n" in shared.log(runs["evaluate"]["name"])


def test_the_list_of_runs_can_be_rebuilt_from_the_notes_alone(
    shared: Site, repository: Callable[..., Repository]
) -> None:
    tree = repository(shared)
    good = tree.push_workflow(
        "mkdir out; echo 1 > out/x; echo '{\"f1\": 0.5}' > m.json", "artifacts: [out]\nmetrics: m.json\ntag: best"
    )
    shared.wait(good)
    bad = tree.push_workflow("exit 4", name="other")
    shared.wait(bad)
    fields = (
        "name",
        "workflow",
        "state",
        "reason",
        "trigger",
        "variables",
        "metrics",
        "tags",
        "started_at",
        "finished_at",
    )

    def rebuilt() -> list[dict[str, object]]:
        tree.git("fetch", "-q", "dstack", "+refs/notes/*:refs/notes/*")
        shas = [line.split()[1] for line in tree.git("notes", "--ref=dstack", "list").splitlines()]
        notes = [(sha, record) for sha in shas for record in parse(tree.git("notes", "--ref=dstack", "show", sha))]
        found = [{"sha": sha, **{key: record[key] for key in fields}} for sha, record in notes]
        return sorted(found, key=lambda run: str(run["finished_at"]), reverse=True)

    shown = shared.cli_json("runs", "--repo", tree.name)
    expected = [{"sha": run["sha"], **{key: run[key] for key in fields}} for run in shown]
    assert [run["name"] for run in expected] == [bad, good] and expected[1]["tags"] == ["best"]
    until(
        lambda: tree.git("ls-remote", "dstack", "refs/notes/dstack") and rebuilt() == expected, 20, "the notes tell all"
    )


def test_a_listing_has_the_keys_that_others_build_on(shared: Site, repository: Callable[..., Repository]) -> None:
    tree = repository(shared)
    name = tree.push_workflow("mkdir out; echo 1 > out/x", "artifacts: [out]")
    shared.wait(name)
    (run,) = shared.cli_json("runs", "--repo", tree.name)
    keys = (
        "name group needs repo workflow state reason sha branch trigger variables metrics verdict tags created_at "
        "started_at finished_at restarted_from jobs"
    )
    assert set(keys.split()) <= set(run)
    assert (run["repo"], run["branch"], run["trigger"], run["reason"]) == (tree.name, "main", "push", "")
    (job,) = run["jobs"]
    assert set(job) >= {"name", "state", "reason", "attempt", "runner", "exit_code", "artifacts"}
    assert (job["attempt"], job["runner"], job["exit_code"]) == (1, "r1", 0)
    assert set(job["artifacts"][0]) >= {"path", "digest", "bytes", "files"}
    assert shared.cli_json("runs", name) == run
    assert shared.cli_json("wait", name) == run
    place = tree.path / "fetched"
    shared.cli("artifacts", name, "--download", str(place), cwd=tree.path)
    assert (place / "out/x").read_text() == "1\n"


def test_a_repeated_push_of_a_commit_makes_no_second_run(shared: Site, repository: Callable[..., Repository]) -> None:
    tree = repository(shared)
    name = tree.push_workflow("true")
    tree.push("HEAD:refs/heads/other")
    tree.push(":refs/heads/other")
    assert "has been run before" in tree.push("HEAD:refs/heads/other")
    runs = shared.runs(repo=tree.name)
    assert sorted(run["branch"] for run in runs) == ["main", "other"]
    assert shared.wait(name)["state"] == "succeeded"


def test_files_with_problems_are_told_to_the_pusher_with_their_place(
    shared: Site, repository: Callable[..., Repository]
) -> None:
    tree = repository(shared)
    tree.commit({".dstack/workflows.yaml": "workflows:\n  - name: a\n    provider: bash\n    comands: [true]\n"})
    said = tree.push()
    assert ".dstack/workflows.yaml:4:5" in said and "commands" in said
    assert shared.runs(repo=tree.name) == []
    assert tree.push_workflow("true")  # the next push is not held up
