"""Runs that need, supersede, time out, stop and start again, and the machines they wait for."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from installation import Repository, Site, bash_workflow
from machines import until


@pytest.fixture
def tree(shared: Site, repository: Callable[..., Repository]) -> Repository:
    return repository(shared)


def test_a_failure_skips_what_needs_it(shared: Site, tree: Repository) -> None:
    text = bash_workflow("first", "exit 5") + bash_workflow("second", "true", "depends-on: [first]").partition("\n")[2]
    sha = tree.commit({".dstack/workflows.yaml": text})
    tree.push()
    ended = {run["workflow"]: shared.wait(run["name"]) for run in shared.runs(sha=sha)}
    assert (ended["first"]["state"], ended["first"]["reason"]) == ("failed", "exit_code")
    assert (ended["second"]["state"], ended["second"]["reason"]) == ("skipped", "dependency_failed")
    assert ended["first"]["jobs"][0]["exit_code"] == 5


def test_a_timeout_ends_a_job(shared: Site, tree: Repository) -> None:
    name = tree.push_workflow(
        "mkdir out; echo 1 > out/x; sleep 60", "timeout: 1s\nstop-grace: 1s\nartifacts: [{path: out, when: always}]"
    )
    run = shared.wait(name)
    assert (run["state"], run["reason"]) == ("failed", "timeout")
    assert run["jobs"][0]["artifacts"][0]["path"] == "out"


def test_a_newer_run_of_a_concurrency_group_takes_the_place_of_one_that_waits(shared: Site, tree: Repository) -> None:
    names = [
        tree.push_workflow("echo up; sleep 60", "concurrency: one\nstop-grace: 1s", message=str(n)) for n in range(1)
    ]
    shared.until_logged(names[0], "up")
    names += [
        tree.push_workflow("echo up; sleep 60", "concurrency: one\nstop-grace: 1s", message=str(n)) for n in (1, 2)
    ]
    second = shared.wait(names[1])
    assert (second["state"], second["reason"], second["jobs"][0]["message"]) == ("stopped", "superseded_by", names[2])
    assert [shared.run(name)["state"] for name in (names[0], names[2])] == ["running", "waiting"]
    assert names[0] in shared.run(names[2])["reason"]
    shared.cli("stop", names[0])
    shared.until_logged(names[2], "up")
    eager = tree.push_workflow("true", "concurrency: {group: one, cancel-running: true}")
    assert shared.wait(names[2])["reason"] == "superseded_by"
    assert shared.wait(eager)["state"] == "succeeded"


def test_a_restart_repeats_a_run_as_it_was(shared: Site, tree: Repository) -> None:
    tree.commit(
        {
            ".dstack/workflows.yaml": bash_workflow("job", "echo lr=$LR"),
            ".dstack/variables.yaml": "variables: {job: {lr: 1}}",
        }
    )
    done = shared.cli("run", "job", "--lr", "3e-4", cwd=tree.path)
    assert done.stdout == "lr=3e-4\n"
    name = shared.runs(repo=tree.name)[0]["name"]
    again = shared.cli("restart", name)
    assert again.stdout == "lr=3e-4\n"
    run = shared.runs(repo=tree.name)[0]
    assert (run["restarted_from"], run["sha"]) == (name, shared.run(name)["sha"])


def test_a_custom_provider_of_the_repository_makes_the_jobs(shared: Site, tree: Repository) -> None:
    module = (
        "from dstack import Job, Provider\nfrom dstack.wire.job import Command\n\n"
        "class Grid(Provider):\n    def jobs(self, workflow):\n"
        "        return [Job(name=f'rate-{r}', commands=(Command(argv=('echo', 'rate', r)),))\n"
        "                for r in workflow.options['rates']]\n"
    )
    sha = tree.commit(
        {
            ".dstack/providers.yaml": "providers:\n  - name: grid\n    module: grid:Grid\n",
            ".dstack/workflows.yaml": "workflows:\n  - name: sweep\n    provider: grid\n    rates: ['0.1', '0.2']\n",
            "grid.py": module,
        }
    )
    tree.push()
    (run,) = shared.runs(sha=sha)
    run = shared.wait(run["name"], 60)
    assert run["state"] == "succeeded", shared.log(run["name"])
    assert [job["name"] for job in run["jobs"]][1:] == ["rate-0.1", "rate-0.2"]
    log = shared.log(run["name"])
    assert b"rate 0.1\n" in log and b"rate 0.2\n" in log


def test_a_provider_of_another_repository_runs_at_the_commit_its_ref_meant(
    shared: Site, tree: Repository, repository: Callable[..., Repository]
) -> None:
    """Its code comes from there, its jobs run on the commit that asked; a ref that moves changes later runs alone."""
    theirs = repository(shared, "local/providers")
    definition = "providers:\n  - name: foo\n    commands: ['cp jobs.json $DSTACK_OUTPUT']\n"
    theirs.commit({".dstack/providers.yaml": definition, "jobs.json": _one_job("first; ls")})
    theirs.git("tag", "v1")
    theirs.push("HEAD", "v1")
    workflow = f"workflows:\n  - name: use\n    provider: {{repo: {theirs.name}, ref: v1, name: foo}}\n"
    sha = tree.commit({".dstack/workflows.yaml": workflow, "mine.txt": ""})
    tree.push()
    (first,) = shared.runs(sha=sha)
    assert shared.wait(first["name"])["state"] == "succeeded", shared.log(first["name"])
    said = shared.log(first["name"]).decode()
    assert "first\nmine.txt\n" in said and "jobs.json\n" not in said.splitlines(keepends=True)
    theirs.commit({"jobs.json": _one_job("second")})
    theirs.git("tag", "-f", "v1")
    theirs.push("HEAD", "+v1")
    again = shared.cli("restart", first["name"]).stdout
    assert "first" in again and "second" not in again
    later = tree.commit({"mine.txt": "2"})
    tree.push()
    (second,) = shared.runs(sha=later)
    assert shared.wait(second["name"])["state"] == "succeeded"
    assert b"second\n" in shared.log(second["name"])
    missing = tree.commit({".dstack/workflows.yaml": workflow.replace("ref: v1", "ref: v9")})
    said = tree.push()
    assert "v9" in said and shared.runs(sha=missing) == []


def _one_job(shell: str) -> str:
    return json.dumps([{"commands": [{"shell": f"echo {shell}"}]}])


def test_pretend_gpus_are_given_whole_and_to_one_job_each(
    make_site: Callable[..., Site], repository: Callable[..., Repository]
) -> None:
    site = make_site()
    site.runner(DSTACK_RUNNER_GPUS="A100:40GB:2", slots=4)
    tree = repository(site)
    hold = "echo gpu=$CUDA_VISIBLE_DEVICES; sleep 60"
    extra = "resources: {gpu: A100}\nstop-grace: 1s"
    names = [tree.push_workflow(hold, extra, message=str(n)) for n in range(3)]
    for name in names[:2]:
        site.until_logged(name, "gpu=")
    assert {site.log(name) for name in names[:2]} == {b"gpu=0\n", b"gpu=1\n"}
    assert until(lambda: site.run(names[2])["reason"], 10, "it waits") == "waits for 1 A100 GPU; 0 free now"
    many = tree.push_workflow("true", "resources: {gpu: {count: 3, memory: 40GB}}")
    assert until(lambda: site.run(many)["reason"], 10, "it waits") == "needs 3 GPUs with 40GB; the largest runner has 2"
    for name in (names[0], many):
        site.cli("stop", name)
    site.until_logged(names[2], "gpu=")
    assert site.log(names[2]) == site.log(names[0]).splitlines()[0] + b"\n"
    for name in names[1:]:
        site.cli("stop", name)
    site.wait_all()
    site.assert_sound()


STATES = ("waiting", "queued", "running", "saving")


@pytest.mark.parametrize("state", [*STATES, "preparing"])
def test_a_run_can_be_stopped_in_every_state(shared: Site, tree: Repository, state: str) -> None:
    """F43. Stopping twice is told apart; what has ended stays as it ended."""
    extra = "stop-grace: 1s\n"
    if state == "queued":
        name = tree.push_workflow("true", extra + "resources: {labels: [nowhere]}")
    elif state == "saving":
        name = tree.push_workflow(_big_artifact(), extra + "artifacts: [out]")
    elif state == "preparing":
        name = tree.push_workflow("sleep 60", extra)
    elif state == "waiting":
        first = tree.push_workflow("sleep 60", extra + "concurrency: one")
        shared.until_state(first, "running")
        name = tree.push_workflow("sleep 60", extra + "concurrency: one", message="second")
    else:
        name = tree.push_workflow("sleep 60", extra)
    if state != "preparing":  # that one is stopped at once, wherever it is by then
        shared.until_state(name, state)
    answer = shared.call("POST", f"/runs/{name}/stop", {})
    assert answer.status_code == 200, answer.text
    run = shared.wait(name)
    assert (run["state"], run["reason"]) == ("stopped", "canceled_by")
    assert shared.call("POST", f"/runs/{name}/stop", {}).status_code == 409
    if state == "waiting":
        shared.call("POST", f"/runs/{first}/stop", {})
        assert shared.wait(first)["state"] == "stopped"
    ended = ("state", "reason", "jobs", "finished_at")  # what it is compared with is found a moment later
    assert [shared.run(name)[key] for key in ended] == [run[key] for key in ended]


def _big_artifact() -> str:
    return "mkdir out; for n in $(seq 40); do head -c 4000000 /dev/urandom > out/$n; done"


def test_a_stop_and_the_end_at_one_moment_have_one_winner(shared: Site, tree: Repository) -> None:
    """F43."""
    names = [tree.push_workflow("sleep 0.3", "stop-grace: 1s", message=str(n)) for n in range(4)]

    def stop(name: str) -> list[int]:
        shared.until_state(name, "running", "saving", "succeeded")
        return [shared.call("POST", f"/runs/{name}/stop", {}).status_code for _ in range(12)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(stop, names))
    for name, codes in zip(names, answers, strict=True):
        run = shared.wait(name)
        assert set(codes) <= {200, 409}
        assert (run["state"], run["reason"]) in (("stopped", "canceled_by"), ("succeeded", ""))
        assert run["state"] == "succeeded" or 200 in codes
