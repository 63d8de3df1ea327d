"""Whole jobs on a real runner: real processes, real Git over HTTP, a server that fences as the real one does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from runner_server import FakeAttempt, FakeServer, until

from dstack.wire.job import ArtifactSpec, Command, Job, MetricsSpec, PythonSpec, SaveWhen
from dstack.wire.states import AttemptState, Reason


def shell(text: str, **more: object) -> Job:
    return Job(commands=(Command(shell=text),), **more)


def ended(attempt: FakeAttempt, within_s: float = 30.0) -> FakeAttempt:
    until(lambda: attempt.finish is not None, within_s, f"{attempt.order.attempt} ends; its log: {attempt.text[-500:]}")
    return attempt


def processes_with(word: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if word.encode() in line.split(b"\0"):
            found.append(file.parent.name)
    return found


def test_a_job_sees_its_commit_runs_and_is_reported(site: FakeServer) -> None:
    sha = site.commit({"hello.txt": "hello\n", "bin/run.sh": "#!/bin/sh\necho from script\n"})
    attempt = ended(site.put(shell("cat hello.txt\n./bin/run.sh\ngit log --format=%H\ngit status --short"), sha))
    assert attempt.text == f"hello\nfrom script\n{sha}\n"
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.exit_code) == (AttemptState.SUCCEEDED, 0)
    assert attempt.finish.log_bytes == len(attempt.log)
    assert attempt.finishes == 1
    order = [AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.SAVING]
    states = [report.state for report in attempt.states]
    assert states == sorted(states, key=order.index)


def test_a_job_knows_its_run_and_no_gpu_unless_it_asked(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    job = shell(
        'echo "$DSTACK_RUN/$DSTACK_REPO/$DSTACK_ATTEMPT/$DSTACK_BRANCH/[$CUDA_VISIBLE_DEVICES]/$LR/$MODE"',
        env={"MODE": "x"},
    )
    attempt = ended(site.put(job, sha, number=3, env={"LR": "0.1"}))
    assert attempt.text == f"{attempt.order.run}/local/demo/3/main/[]/0.1/x\n"


def test_nothing_of_the_runner_reaches_a_job(site: FakeServer, monkeypatch) -> None:
    monkeypatch.setenv("DSTACK_TOKEN", "registration-token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "machine-secret")
    sha = site.commit({"a": ""})
    looks = (
        "env; cat .git/config; grep -rs clone-token . ~ /tmp || true; grep -sl clone-token /proc/[0-9]*/environ || true"
    )
    attempt = ended(site.put(shell(looks), sha))
    assert attempt.finish is not None and attempt.finish.state is AttemptState.SUCCEEDED
    for word in ("registration-token", "machine-secret", "clone-token", "runner-token", "Authorization", "lease-"):
        assert word not in attempt.text


def test_commands_run_in_order_and_stop_at_the_first_failure(site: FakeServer) -> None:
    sha = site.commit({"sub/a": ""})
    commands = (
        Command(argv=("echo", "$HOME; *")),
        Command(shell="pwd; false | cat; echo not here"),
        Command(shell="echo nor here"),
    )
    attempt = ended(site.put(Job(commands=commands, working_dir="sub"), sha))
    assert attempt.text.splitlines()[0] == "$HOME; *"
    assert attempt.text.splitlines()[1].endswith("/work/sub")
    assert "here" not in attempt.text.split("failed:")[0]
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason, attempt.finish.exit_code) == (
        AttemptState.FAILED, Reason.EXIT_CODE, 1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("job", "reason", "said"),
    [
        (shell("exit 7"), Reason.EXIT_CODE, "exit code 7"),
        (shell("kill -SEGV $$"), Reason.EXIT_CODE, "SIGSEGV"),
        (Job(commands=(Command(argv=("no-such-program",)),)), Reason.EXIT_CODE, "exit code 127"),
        (shell("true", working_dir="nowhere"), Reason.CONFIG, "nowhere"),
        (shell("true", working_dir="out"), Reason.CONFIG, "leads out"),
        (shell("true", artifacts=(ArtifactSpec("model"),)), Reason.ARTIFACTS, "model"),
        (shell("true", python=PythonSpec(version="3.99")), Reason.ENVIRONMENT, "Python 3.99 is not on this machine"),
        (shell("true", python=PythonSpec(requirements=("no.txt",))), Reason.ENVIRONMENT, "no.txt is not in the"),
        (shell("true", expects_jobs=True), Reason.CONFIG, "list of jobs"),
        (shell("sleep 60", timeout_s=1, stop_grace_s=1), Reason.TIMEOUT, "timeout of 1 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_every_failure_has_its_reason(site: FakeServer, job: Job, reason: Reason, said: str) -> None:
    sha = site.commit({"a": "", "link": ""})
    if job.working_dir == "out":
        job = shell("true", working_dir="../..")
    attempt = ended(site.put(job, sha))
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.FAILED, reason)
    assert said in attempt.finish.message
    assert not attempt.finish.machine_fault
    assert "dstack: failed: " in attempt.text


def test_a_commit_that_is_not_there_fails_at_checkout(site: FakeServer) -> None:
    site.commit({"a": ""})
    attempt = ended(site.put(shell("true"), "0123456789" * 4))
    assert attempt.finish is not None
    assert (attempt.finish.reason, attempt.finish.machine_fault) == (Reason.CHECKOUT, False)


def test_artifacts_metrics_and_report_are_stored(site: FakeServer) -> None:
    sha = site.commit({"model/README": "tracked", "a": ""})
    text = """
        echo weights > model/w.bin; mkdir logs; echo 1,2 > logs/a.csv; echo x > logs/b.txt
        echo '{"step": 1, "loss": 0.5}' >> $DSTACK_METRICS
        echo '{"name": "loss", "value": 0.25, "step": 2}' >> $DSTACK_METRICS
        printf '{"step": 3, "loss": NaN}' >> $DSTACK_METRICS
        echo '{"accuracy": 0.93, "val": {"loss": 0.2, "name": "x"}, "bad": NaN}' > metrics.json
        echo 'val f1 0.1'; echo 'val f1 0.7'
        echo '# Report: hunter2secret' > report.md
    """
    job = shell(
        text, artifacts=(ArtifactSpec("model"), ArtifactSpec("logs/*.csv")),
        metrics=MetricsSpec(file="metrics.json", log={"f1": r"val f1 ([\d.]+)", "bad": "(x+x+)+y"}), report="report.md",
    )  # fmt: skip
    attempt = ended(site.put(job, sha, secrets={"TOKEN": "hunter2secret"}))
    assert attempt.finish is not None and attempt.finish.state is AttemptState.SUCCEEDED, attempt.text
    assert [f.path for f in attempt.artifacts["model"].files] == ["model/w.bin"]
    assert [f.path for f in attempt.artifacts["logs/*.csv"].files] == ["logs/a.csv"]
    assert attempt.finish.metrics == {"accuracy": 0.93, "val/loss": 0.2, "f1": 0.7}
    assert [(p.name, p.step, p.value) for p in attempt.points] == [("loss", 1, 0.5), ("loss", 2, 0.25)]
    assert "dstack: metrics: not a finite number" in attempt.text
    assert attempt.finish.report == "# Report: ***\n"


def test_artifacts_marked_always_survive_a_failure(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    artifacts = (ArtifactSpec("model"), ArtifactSpec("logs", SaveWhen.ALWAYS))
    attempt = ended(
        site.put(shell("mkdir model logs; touch model/m; echo why > logs/l; exit 3", artifacts=artifacts), sha)
    )
    assert attempt.finish is not None
    assert (attempt.finish.reason, attempt.finish.exit_code) == (Reason.EXIT_CODE, 3)
    assert list(attempt.artifacts) == ["logs"]


def test_inputs_are_mounted_fetched_once_and_safe(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    item = site.artifact({"data/x/train.bin": b"1234", "data/big.bin": os.urandom(400_000)})
    job = shell("cat data/x/train.bin; echo; (echo 9 > data/x/train.bin) 2>/dev/null || echo refused")
    before, fetches = site.fetches, []
    for _ in range(2):
        attempt = ended(site.put(job, sha, inputs=(item,)))
        assert "1234\nrefused\n" in attempt.text, attempt.text
        fetches.append(site.fetches)
    assert fetches[0] == fetches[1] > before  # the second time nothing came over the wire


def test_an_input_over_a_tracked_file_is_refused(site: FakeServer) -> None:
    sha = site.commit({"data/x": "tracked"})
    attempt = ended(site.put(shell("true"), sha, inputs=(site.artifact({"data/x": b"1"}),)))
    assert attempt.finish is not None
    assert attempt.finish.reason is Reason.INPUTS
    assert "data/x" in attempt.finish.message and "prepare:latest" in attempt.finish.message


def test_a_stop_gives_grace_and_keeps_what_is_always_kept(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    text = "mkdir c; trap 'echo saved > c/checkpoint; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    attempt = site.put(shell(text, artifacts=(ArtifactSpec("c", SaveWhen.ALWAYS),)), sha)
    until(lambda: "up" in attempt.text)
    site.ask_stop(attempt)
    ended(attempt)
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.STOPPED, Reason.CANCELED_BY)
    assert [f.path for f in attempt.artifacts["c"].files] == ["c/checkpoint"]


def test_a_job_that_ignores_term_and_hides_children_is_ended(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    word = f"31536{time.time_ns() % 10**9}"
    text = f"trap '' TERM INT; (setsid env -i sleep {word} &) ; echo up; while :; do sleep {word} || true; done"
    attempt = site.put(shell(text), sha)
    until(lambda: "up" in attempt.text and len(processes_with(word)) >= 2)
    site.ask_stop(attempt, grace_s=1)
    ended(attempt, 10)
    assert attempt.finish is not None and attempt.finish.state is AttemptState.STOPPED
    assert processes_with(word) == []


def test_leftovers_of_a_command_are_ended_with_it(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    word = f"41536{time.time_ns() % 10**9}"
    attempt = ended(site.put(shell(f"setsid sleep {word} & echo left"), sha))
    assert attempt.finish is not None and attempt.finish.state is AttemptState.SUCCEEDED
    assert processes_with(word) == []
    assert "1 processes that the command left running were ended" in attempt.text


def test_a_stop_also_ends_what_makes_the_environment(site: FakeServer) -> None:
    build = '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]'
    project = f'[project]\nname = "slow"\nversion = "1"\n{build}'
    back = "import time, sys\ndef build_editable(*a):\n    time.sleep(600)\n"
    sha = site.commit({"pyproject.toml": project, "b.py": back, "r.txt": "-e .\n"})
    attempt = site.put(shell("echo never", python=PythonSpec(requirements=("r.txt",))), sha)
    until(lambda: "installing from the checkout" in attempt.text)
    site.ask_stop(attempt, grace_s=1)
    ended(attempt, 10)
    assert attempt.finish is not None and attempt.finish.state is AttemptState.STOPPED
    assert "never" not in attempt.text


def test_a_cache_outlives_its_job_and_serves_the_same_repo(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    job = shell("cat ~/.cache/x/f || true; mkdir -p ~/.cache/x; echo kept > ~/.cache/x/f", cache=("~/.cache/x",))
    assert "kept" not in ended(site.put(job, sha)).text
    assert ended(site.put(job, sha)).text == "kept\n"
    assert "kept" not in ended(site.put(job, sha, trusted=False)).text
    assert "kept" not in ended(site.put(job, sha, repo="local/other")).text


def test_a_job_that_is_over_in_no_time_is_believed(site: FakeServer) -> None:
    """The server takes no success of an attempt that it has not heard to run."""
    sha = site.commit({"a": ""})
    attempts = [site.put(shell("true"), sha) for _ in range(10)]
    assert {ended(attempt).finish.state for attempt in attempts} == {AttemptState.SUCCEEDED}  # type: ignore[union-attr]


def test_secrets_reach_the_job_and_no_log(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    job = shell(
        'test "$KEY" = correct-horse-battery && echo known; echo "k=$KEY"; echo $KEY | base64', secrets=("KEY",)
    )
    attempt = ended(site.put(job, sha, secrets={"KEY": "correct-horse-battery"}))
    assert attempt.text.startswith("known\nk=***\n")
    assert b"correct-horse" not in attempt.log and b"Y29ycmVjdC1ob3JzZS" not in attempt.log


def test_a_providers_job_hands_back_its_list(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    attempt = ended(site.put(shell("""echo '[{"name": "x"}]' > "$DSTACK_OUTPUT" """, expects_jobs=True), sha))
    assert attempt.finish is not None and attempt.finish.jobs == '[{"name": "x"}]\n'


def test_what_a_job_wrote_is_not_followed_out_of_its_checkout(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    text = "ln -s /etc/passwd report.md; mkfifo fifo; ln -s /etc/passwd $DSTACK_METRICS"
    job = shell(text, report="report.md", metrics=MetricsSpec(file="fifo"))
    attempt = ended(site.put(job, sha))
    assert attempt.finish is not None
    assert (attempt.finish.report, attempt.finish.metrics, attempt.points) == ("", {}, [])
    assert "root:" not in attempt.text and "leads out of the checkout" in attempt.text


def test_two_jobs_at_once_share_the_gpus_without_overlap(server: FakeServer, start_runner) -> None:
    sha = server.commit({"a": ""})
    start_runner(gpus="A100:40GB:2", slots=2)
    assert [d.id for d in server.polls[-1].capacity.devices] == ["0", "1"]
    text = 'echo "gpu=$CUDA_VISIBLE_DEVICES"; while [ ! -e "$DSTACK_OUTPUT.go" ]; do sleep 0.02; done'
    pair = [server.put(shell(text), sha, devices=(str(n),)) for n in range(2)]
    until(lambda: all(attempt.text for attempt in pair))  # both run at the same time
    assert [attempt.text for attempt in pair] == ["gpu=0\n", "gpu=1\n"]
    for attempt in pair:
        server.ask_stop(attempt, grace_s=1)
    assert [ended(a).finish.state for a in pair] == [AttemptState.STOPPED] * 2  # type: ignore[union-attr]


def test_one_attempt_leaves_nothing_for_the_next(site: FakeServer) -> None:
    sha = site.commit({"a": ""})
    ended(site.put(shell("touch ~/.bashrc left /tmp/left /dev/shm/left; git config core.hooksPath /tmp"), sha))
    looks = "ls -A ~; ls -A; ls -A /tmp | grep left || true; ls -A /dev/shm; git config core.hooksPath || echo clean"
    assert ended(site.put(shell(looks), sha)).text == ".git\na\nclean\n"


def test_jobs_also_run_without_isolation(server: FakeServer, start_runner) -> None:
    sha = server.commit({"a": "content", "r.txt": "six\n"})
    start_runner(isolate=False)
    attempt = ended(
        server.put(
            shell(
                "cat a; id -u; echo x > out; python -c 'import six'",
                artifacts=(ArtifactSpec("out"),),
                python=PythonSpec(requirements=("r.txt",)),
            ),
            sha,
        )
    )
    assert attempt.finish is not None and attempt.finish.state is AttemptState.SUCCEEDED, attempt.text
    assert "content0" in attempt.text.replace("\n", "")
    assert server.polls[-1].capacity.isolated is False
