"""The runner's pure decisions, by tables."""

from __future__ import annotations

import errno
import os
from itertools import islice
from pathlib import Path

import pytest

from dstack import errors
from dstack.wire.job import Command, Job
from dstack.wire.runner import MetricPoint, Order, Renewed, Stop
from dstack.wire.states import AttemptState, Reason
from dstack_runner import argv, logmetrics, metrics, requirements, settings
from dstack_runner.caches import Caches, home_path
from dstack_runner.indexes import index_settings
from dstack_runner.inside import inside, read_inside
from dstack_runner.jobenv import FALLBACK_PATH, base_env, job_env
from dstack_runner.lease import judge as judge_leases
from dstack_runner.lease import silent_too_long
from dstack_runner.metrics import MetricsTail
from dstack_runner.outcome import StepFailed, failure_of, judge
from dstack_runner.server import delays, error_from, worth_retrying
from dstack_runner.session import Credential, LiveRecord, Session, check_attempt, short_key

NO_ENV: dict[str, str] = {}


# Settings


def test_flags_win_over_variables_and_those_over_the_file() -> None:
    stored = {"server": "http://file:1", "name": "file", "slots": "3", "labels": "a, b,a"}
    env = {"DSTACK_SERVER": "http://env:1/", "DSTACK_RUNNER_NAME": "env", "HOME": "/h", "XDG_DATA_HOME": "/x"}
    chosen = settings.resolve({"name": "flag"}, env, stored)
    assert (chosen.server, chosen.name, chosen.slots, chosen.labels) == ("http://env:1", "flag", 3, ("a", "b"))
    assert chosen.data == Path("/x/dstack/runner")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no server"),
        ({"server": "ftp://x"}, "not a server address"),
        ({"server": "http://user:pass@x"}, "not a server address"),
        ({"server": "http://x", "name": "a b"}, "cannot name a runner"),
        ({"server": "http://x", "name": "x" * 64}, "cannot name a runner"),
        ({"server": "http://x", "slots": "0"}, "from 1 to"),
        ({"server": "http://x", "slots": "many"}, "from 1 to"),
        ({"server": "http://x", "slots": "²"}, "from 1 to"),
        ({"server": "http://x", "labels": "a,b\nc"}, "not usable"),
        ({"server": "http://x", "isolate": "maybe"}, "yes or no"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(errors.DstackError, match=said):
        settings.resolve(given, NO_ENV, {})


def test_the_config_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = settings.config_path({"XDG_CONFIG_HOME": str(tmp_path)})
    settings.write_config(path, {"server": "http://x", "token": "t"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert settings.read_config(path) == {"server": "http://x", "token": "t"}
    path.write_text("[")
    with pytest.raises(errors.Usage, match="cannot be read"):
        settings.read_config(path)


# Errors and retries


@pytest.mark.parametrize(
    ("status", "body", "kind", "again"),
    [
        (409, b'{"error": "lease_lost", "message": "m"}', errors.LeaseLost, False),
        (409, b"", errors.Conflict, False),
        (401, b"<html>", errors.NotSignedIn, False),
        (404, b"[]", errors.NotFound, False),
        (426, b'{"error": "unsupported_version"}', errors.UnsupportedVersion, False),
        (429, b"{}", errors.TooMany, True),
        (500, b'{"error": "error", "message": "bug"}', errors.DstackError, True),
        (502, b"", errors.Unreachable, True),
        (500, b"<html>", errors.DstackError, True),
        (418, b"", errors.Malformed, False),
        (503, b'{"error": "unavailable"}', errors.Unavailable, True),
        (302, b"", errors.Malformed, False),
        (422, b'{"error": "invalid", "message": "no"}', errors.Invalid, False),
    ],
)
def test_refusals_become_the_errors_they_mean(status: int, body: bytes, kind: type, again: bool) -> None:
    error = error_from(status, "7", body, "http://s")
    assert type(error) is kind
    assert worth_retrying(error) is again


def test_delays_double_to_a_ceiling_and_spread() -> None:
    assert list(islice(delays(lambda: 1.0), 8)) == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert list(islice(delays(lambda: 0.0), 2)) == [0.125, 0.25]


# Leases


def test_a_lease_the_server_does_not_name_is_lost() -> None:
    stop = Stop("b", Reason.SUPERSEDED_BY, 5)
    stops = judge_leases({"a": "1", "b": "2", "c": "3"}, Renewed(held=("a",), stops=(stop,)))
    assert stops == (stop, Stop("c", Reason.RUNNER_LOST, 0, lost=True))


def test_silence_ends_jobs_only_after_the_limit() -> None:
    assert silent_too_long({"a": "1"}, 86399, 86400) == ()
    assert silent_too_long({"a": "1"}, 86400, 86400) == (Stop("a", Reason.RUNNER_LOST, 0, lost=True),)


# Outcomes

FAILED = StepFailed("why", reason=Reason.EXIT_CODE, job_exit=3)


@pytest.mark.parametrize(
    ("failure", "stop", "state", "reason"),
    [
        (None, None, AttemptState.SUCCEEDED, None),
        (FAILED, None, AttemptState.FAILED, Reason.EXIT_CODE),
        (FAILED, Stop("a", Reason.SUPERSEDED_BY), AttemptState.STOPPED, Reason.SUPERSEDED_BY),
        (None, Stop("a", Reason.CANCELED_BY), AttemptState.STOPPED, Reason.CANCELED_BY),
        (None, Stop("a", Reason.PREEMPTED), AttemptState.PREEMPTED, Reason.PREEMPTED),
        (FAILED, Stop("a", Reason.RUNNER_LOST, lost=True), AttemptState.LOST, Reason.RUNNER_LOST),
    ],
)
def test_how_an_attempt_ended(
    failure: StepFailed | None, stop: Stop | None, state: AttemptState, reason: Reason | None
) -> None:
    outcome = judge(failure, stop, 0)
    assert (outcome.state, outcome.reason) == (state, reason)


@pytest.mark.parametrize(
    ("step", "error", "reason", "machine"),
    [
        ("checkout", OSError(errno.ENOSPC, "full"), Reason.DISK_FULL, True),
        ("environment", errors.Invalid("bad"), Reason.ENVIRONMENT, False),
        ("inputs", errors.Invalid("bad"), Reason.INPUTS, False),
        ("outputs", RuntimeError("ours"), Reason.ARTIFACTS, True),
    ],
)
def test_trouble_in_a_step_has_a_reason(step: str, error: Exception, reason: Reason, machine: bool) -> None:
    failure = failure_of(step, error)
    assert (failure.reason, failure.machine_fault) == (reason, machine)


# Command lines and variables


def test_a_shell_step_stops_at_its_first_failure() -> None:
    assert argv.job_argv(Command(shell="a | b")) == ("bash", "-e", "-o", "pipefail", "-c", "a | b")
    assert argv.job_argv(Command(argv=("a", "$b"))) == ("a", "$b")
    with pytest.raises(errors.Invalid):
        argv.job_argv(Command())


def test_a_credential_is_never_in_argv() -> None:
    words = argv.git_fetch("http://h/git/o/n.git", "a" * 40, "refs/fetched/x")
    assert words[-3:] == ["--end-of-options", "http://h/git/o/n.git", f"{'a' * 40}:refs/fetched/x"]
    env = argv.clone_credential("http://h/git/o/n.git", "secret")
    assert env["GIT_CONFIG_KEY_0"] == "http.http://h/git/o/n.git.extraHeader"
    assert "secret" not in str(env)  # it is encoded


def test_a_64_digit_commit_makes_a_sha256_repository() -> None:
    assert "objectFormat = sha256" in argv.git_files("a" * 64)["config"]
    assert "objectFormat" not in argv.git_files("a" * 40)["config"]


def test_wheels_only_unless_told_to_build() -> None:
    words = argv.uv_install("uv", Path("/e/bin/python"), lock=Path("/l"), build=False, copy=True)
    assert "--no-build" in words and "--no-deps" in words and words[-2:] == ["-r", "/l"]
    assert argv.uv_install("uv", Path("/p"), lines=("-e .", "./x"), build=True, copy=False)[-3:] == ["-e", ".", "./x"]


def order(**more: object) -> Order:
    facts = {
        "attempt": "a", "number": 2, "job_id": "j", "run": "r", "repo": "o/n", "clone_path": "/g", "clone_token": "t",
        "sha": "s", "workflow": "w", "job": Job(commands=()), **more,
    }  # fmt: skip
    return Order(**facts)  # type: ignore[arg-type]


def test_a_jobs_environment_is_built_from_nothing() -> None:
    machine = {"PATH": "/venv/bin:relative:/usr/bin", "SECRET": "x", "LD_PRELOAD": "y", "UV_INDEX_URL": "http://i"}
    base = base_env(machine, home=Path("/h"), tmp=Path("/t"), own_prefix="/venv", python=Path("/py/bin/python3"))
    assert base["PATH"] == "/usr/bin:/py/bin"
    assert not {"SECRET", "LD_PRELOAD"} & base.keys() and base["UV_INDEX_URL"] == "http://i"
    asked = order(
        env={"LR": "1"}, job=Job(commands=(), env={"LR": "2", "DSTACK_RUN": "fake"}), devices=("GPU-1", "GPU-2")
    )
    env = job_env(base, asked, checkout=Path("/c"), metrics=Path("/m"), output=Path("/o"), venv=Path("/v"))
    assert (env["LR"], env["DSTACK_RUN"], env["CUDA_VISIBLE_DEVICES"]) == ("2", "r", "GPU-1,GPU-2")
    assert env["PATH"].startswith("/v/bin:") and env["VIRTUAL_ENV"] == "/v"


def test_a_machine_without_a_path_gets_the_usual_one() -> None:
    base = base_env({}, home=Path("/h"), tmp=Path("/t"), own_prefix="/v", python=Path("/py/python"))
    assert base["PATH"].startswith(FALLBACK_PATH)


def test_index_settings_never_let_a_job_steer_the_runners_uv() -> None:
    env = {
        "PIP_INDEX_URL": "http://p", "UV_INDEX_PRIVATE_PASSWORD": "x", "TOKEN": "t", "OTHER": "o", "UV_PYTHON": "/evil",
        "UV_CONFIG_FILE": "/evil", "LD_PRELOAD": "/evil", "UV_CACHE_DIR": "/evil",
    }  # fmt: skip
    chosen = index_settings(env, frozenset({"TOKEN", "LD_PRELOAD", "UV_CONFIG_FILE"}))
    assert chosen == {"UV_INDEX_URL": "http://p", "UV_INDEX_PRIVATE_PASSWORD": "x", "TOKEN": "t"}


# Requirements


def test_a_lock_is_sorted_into_what_is_shared_and_what_is_the_checkouts() -> None:
    text = (
        "-e ./mine\nidna==3.1 \\\n    --hash=sha256:ab12\n./other[x]\n"
        "six==1.0 ; python_version > '3'\nz @ https://h/z.whl\nm @ file:///c/m\n"
    )
    lock = requirements.read_lock(text, ["--extra-index-url https://${T}@h/simple"])
    assert lock.local == ("-e ./mine", "./other[x]", "file:///c/m")
    assert [line.split()[0] for line in lock.pinned] == ["idna==3.1", "six==1.0", "z"]
    assert lock.wheels_only and lock.text.startswith("--extra-index-url https://${T}@h/simple\n")
    assert requirements.variables_in(lock.options) == {"T"}


@pytest.mark.parametrize(
    "line", ["-r /etc/passwd", "--config-settings x", "$(id)", "numpy", "a==1; b\n--no-deps", "a==1 --x"]
)
def test_a_lock_from_hostile_code_cannot_hold_other_things(line: str) -> None:
    with pytest.raises(errors.Invalid, match="not understood"):
        requirements.read_lock(line)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("x @ git+https://h/x@abc", ()),
        ("x==1", ("--find-links ./wheels",)),
        ("x==1", ("--no-binary x",)),
        ("x==1", ("-i file:///x",)),
    ],
)
def test_what_must_be_built_or_read_here_is_not_for_everyone(text: str, options: tuple[str, ...]) -> None:
    assert not requirements.read_lock(text, options).wheels_only


def test_what_requirement_files_refer_to() -> None:
    text = "-r base.txt # c\n-cother.txt\n--requirement=x.txt\n-e .[dev]\n./lib\nnumpy\n--index-url https://i\n"
    assert requirements.includes(text) == ("base.txt", "other.txt", "x.txt")
    assert requirements.local_folders(text) == (".", "./lib")
    assert requirements.index_options(text) == ("--index-url https://i",)
    toml = (
        '[[tool.uv.index]]\nname = "torch"\nurl = "https://t"\n[[tool.uv.index]]\nurl = "https://d"\ndefault = true\n'
    )
    assert requirements.project_index_options(toml) == ("--extra-index-url https://t", "--index-url https://d")


# Metrics


@pytest.mark.parametrize(
    ("line", "points"),
    [
        (b'{"step": 1, "loss": 0.5}', [("loss", 0.5, 1)]),
        (b'{"name": "a/b", "value": "1e-3", "step": "7"}', [("a/b", 0.001, 7)]),
        (b'{"val": {"loss": 1, "top": {"k": 2}}, "time": 9}', [("val/loss", 1.0, None), ("val/top/k", 2.0, None)]),
        (b'{"big": 1e999}', None), (b'{"\\ud800": 1}', None),
        (b'{"flag": true}', None), (b"[1]", None), (b"{", None), (b'{"x": "abc"}', None),
    ],
)  # fmt: skip
def test_metric_lines(line: bytes, points: list[tuple[str, float, int | None]] | None) -> None:
    if points is None:
        with pytest.raises(errors.Invalid):
            metrics.points_of(line, 5.0)
    else:
        assert metrics.points_of(line, 5.0) == tuple(MetricPoint(n, v, s, 5.0) for n, v, s in points)


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("m.json", b'{"a": 1, "b": {"c": "2.5", "d": [1]}, "e": null, "n": NaN}', {"a": 1.0, "b/c": 2.5}),
        ("m.csv", b"epoch,acc,name\n1,0.1,x\n2,0.9,y\n", {"epoch": 2.0, "acc": 0.9}),
        ("m.CSV", b"\xef\xbb\xbfepoch;acc\n1;0.1\n", {"epoch": 1.0, "acc": 0.1}),
        ("m.csv", b"", {}),
    ],
)
def test_final_metrics(name: str, data: bytes, found: dict[str, float]) -> None:
    assert metrics.final_metrics(name, data) == found


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{" * 100_000])
def test_metrics_files_that_are_none(data: bytes) -> None:
    with pytest.raises(errors.Invalid):
        metrics.final_metrics("m.json", data)


def test_the_tail_takes_whole_lines_and_the_rest_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "m"
    tail = MetricsTail(file)
    assert tail.collect(1.0) == ()
    file.write_bytes(b'{"a": 1}\n{"a"')
    assert [p.value for p in tail.collect(1.0)] == [1.0]
    with file.open("ab") as more:
        more.write(b': 2}\nnonsense\n{"a": 3}')
    assert [p.value for p in tail.collect(2.0)] == [2.0]
    assert [p.value for p in tail.collect(3.0, last=True)] == [3.0]
    assert len(tail.problems) == 1


def test_a_tail_reads_plain_files_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert MetricsTail(tmp_path).collect(1.0, last=True) == ()
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert MetricsTail(tmp_path / "fifo").collect(1.0, last=True) == ()
    assert MetricsTail(tmp_path / "link").collect(1.0, last=True) == ()


def test_log_metrics_are_the_last_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("loss 0.5\rloss 0.25\nloss nan\nval 3\n")
    assert logmetrics.search({"loss": r"loss ([\d.nan]+)", "val": r"val (\d)", "no": "(q)"}, log) == (
        {"loss": 0.25, "val": 3.0},
        "",
    )
    found, trouble = logmetrics.search({"bad": "("}, log)
    assert found == {} and "log metrics" in trouble
    log.write_text("x" * 40 + "!\n")
    monkeypatch.setattr(logmetrics, "LIMIT_S", 0.5)
    found, trouble = logmetrics.search({"slow": "(x+x+)+y"}, log)
    assert found == {} and "took longer" in trouble


# Files, caches, records


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "~/x", "", "link/x", "a\0b"])
def test_paths_do_not_leave_the_checkout(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(errors.Invalid):
        inside(tmp_path, path)


def test_only_plain_files_of_a_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    os.mkfifo(tmp_path / "fifo")
    assert read_inside(tmp_path, "f", 5) == b"12345"
    for name, kind in (
        ("f", errors.TooLarge),
        ("fifo", errors.Invalid),
        ("none", errors.NotFound),
        (".", errors.Invalid),
    ):
        with pytest.raises(kind):
            read_inside(tmp_path, name, 4)


@pytest.mark.parametrize(("path", "place"), [("~/.cache/hf", ".cache/hf"), (".cache/hf/", ".cache/hf"), ("x", "x")])
def test_places_of_caches(path: str, place: str) -> None:
    assert home_path(path) == place


@pytest.mark.parametrize("path", ["/root", "~", "~/", "../x", "a/../..", "", "~/.."])
def test_caches_stay_below_the_home(path: str) -> None:
    with pytest.raises(errors.Invalid):
        home_path(path)


def test_a_cache_has_one_holder_and_knows_trust(tmp_path: Path) -> None:
    caches = Caches(tmp_path / "caches")
    homes = [tmp_path / name for name in "abc"]
    for home in homes:
        home.mkdir()
    assert caches.lend("1", "o/n", True, "~/.c", homes[0], lambda folder: folder)
    (homes[0] / ".c" / "f").write_text("x")
    assert not caches.lend("2", "o/n", True, "~/.c", homes[1], lambda folder: folder)
    assert caches.lend("3", "o/n", False, "~/.c", homes[2], lambda folder: folder)
    assert not (homes[2] / ".c" / "f").exists()  # what trusted code left is not shown to untrusted code, nor back
    caches.give_back("1")
    assert caches.lend("2", "o/n", True, "~/.c", homes[1], lambda folder: folder)
    assert (homes[1] / ".c" / "f").read_text() == "x"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "a.b", "x" * 200, "-x", "a\n"])
def test_attempts_that_cannot_name_a_folder_are_refused(name: str) -> None:
    with pytest.raises(errors.Invalid):
        check_attempt(name)


def test_a_session_remembers_and_is_held_once(tmp_path: Path) -> None:
    session, other = Session(tmp_path / "d"), Session(tmp_path / "d")
    assert session.holder() is None
    session.open()
    assert other.holder() == os.getpid()
    with pytest.raises(errors.Conflict, match="another runner"):
        other.open()
    credential = Credential("http://s", "1", "n", "token")
    session.keep(credential)
    assert session.credential("http://s", "n") == credential
    assert session.credential("http://other", "n") is None
    assert (tmp_path / "d" / "credential.json").stat().st_mode & 0o777 == 0o600
    session.begin(LiveRecord("a1", "lease"))
    (tmp_path / "d" / "live" / "torn.json").write_text('{"att')
    assert session.left_over() == (LiveRecord("a1", "lease"),)
    session.end("a1")
    assert session.left_over() == ()
    session.close()
    other.open()
    other.close()


def test_folder_names_keep_their_borders() -> None:
    assert short_key("ab", "c") != short_key("a", "bc")
