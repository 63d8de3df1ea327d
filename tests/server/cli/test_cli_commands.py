"""Every command against the fake server: what it prints, what it sends, and its exit code."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, refusal

from dstack.cli.commands import COMMANDS

Dstack = Callable[..., Any]


def test_runs_as_a_table_and_as_json(api: ApiServer, dstack: Dstack) -> None:
    api.add_run("calm-fox-1", state="failed", reason="exit_code", metrics={})
    api.add_run("brave-otter-2", tags=["train:latest"])
    done = dstack("runs")
    lines = done.out.splitlines()
    assert done.code == 0 and lines[0].split()[:4] == ["RUN", "STATE", "WORKFLOW", "COMMIT"]
    assert "brave-otter-2" in lines[1] and "accuracy 0.953" in lines[1] and "4.0s" in lines[1]
    assert "calm-fox-1" in lines[2] and "exit code" in lines[2] and "\x1b" not in done.out
    assert json.loads(dstack("runs", "--json").out) == [api.runs["brave-otter-2"], api.runs["calm-fox-1"]]
    assert json.loads(dstack("runs", "--json", "calm-fox-1").out) == api.runs["calm-fox-1"]
    assert json.loads(dstack("runs", "--json", "--state", "failed").out) == [api.runs["calm-fox-1"]]


def test_one_run_in_full(api: ApiServer, dstack: Dstack) -> None:
    artifact = {"path": "model", "digest": "d", "bytes": 2048, "files": 3}
    job = {"name": "", "state": "succeeded", "reason": "", "attempt": 2, "runner": "box", "exit_code": 0}
    api.add_run("one", jobs=[{**job, "artifacts": [artifact], "message": "fine"}])
    out = dstack("runs", "one").out
    assert "attempt 2" in out and "model  3 files, 2.0 KB" in out and "lr=0.1" in out


def test_words_of_the_server_command_no_terminal(api: ApiServer, dstack: Dstack) -> None:
    api.add_run("one", state="failed", reason="\x1b]52;c;aGk=\x07bad\x1b[2J", branch="\x1b[31mx\u202e")
    api.trouble.answers = [None, refusal(422, "invalid", "\x1b]0;t\x07no", "\x1b[5mhint")]
    assert "\x1b" not in dstack("runs").out
    done = dstack("runs")
    assert done.err == "dstack: no\n  hint\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["runs", "nobody"], 5, "there is no nobody"),
        (["runs", "--token", "old"], 4, "unknown or expired"),
        (["runs", "--server", "http://127.0.0.1:1"], 6, "no dstack server answers"),
        (["logs", "-f", "one", "--server", "http://127.0.0.1:1"], 6, "no dstack server answers"),
        (["wait", "one", "--server", "http://127.0.0.1:1"], 6, "no dstack server answers"),
        (["logs", "-f", "nobody"], 5, "there is no nobody"),
        (["wait", "nobody"], 5, "there is no nobody"),
        (["runs", "--server", "nonsense"], 6, "is not a server address"),
        (["runs", "--limit", "0"], 2, "is not a number from 1"),
        (["runs", "--nonsense"], 2, "unrecognized arguments"),
        (["rnus"], 2, "Did you mean `dstack runs`"),
        (["repos", "add"], 2, "needs a name"),
        (["repos", "list", "x"], 2, "takes no name"),
        (["tag", "one", "other:x"], 2, "dstack tag one x"),
        (["wait", "one", "--timeout", "-1"], 2, "not a number of seconds"),
        (["config", "set", "token", "abc"], 2, "can be read by others"),
        (["secrets", "set", "--repo", "local/demo"], 2, "needs a name"),
    ],
)
def test_errors_have_their_exit_code_and_no_traceback(
    api: ApiServer, dstack: Dstack, words: list[str], code: int, said: str
) -> None:
    api.add_run("one")
    done = dstack(*words)
    assert (done.code, done.out) == (code, "") and said in done.err and "Traceback" not in done.err


def test_without_a_server_the_next_step_is_said(home: Path, dstack: Dstack) -> None:
    done = dstack("runs")
    assert done.code == 6 and "dstack server start" in done.err
    dstack("config", "set", "server", "http://127.0.0.1:1")
    done = dstack("runs")
    assert done.code == 4 and "dstack config set token" in done.err


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"state": "failed"}, 3),
        ({"state": "stopped"}, 3),
        ({"state": "skipped"}, 3),
        ({"verdict": "failed"}, 7),
        ({"verdict": "within_noise"}, 0),
        ({"state": "failed", "verdict": "failed"}, 3),
    ],
)
def test_wait_and_logs_exit_as_the_run_did(api: ApiServer, dstack: Dstack, changes: dict[str, Any], code: int) -> None:
    api.add_run("one", b"log\n", **changes)
    assert dstack("wait", "one").code == code
    assert dstack("logs", "-f", "one").code == code
    assert (dstack("logs", "one").code, dstack("logs", "one").out) == (0, "log\n")


def test_wait_gives_up_at_its_timeout(api: ApiServer, dstack: Dstack) -> None:
    api.add_run("one", state="running", finished_at=None)
    done = dstack("wait", "one", "--timeout", "0.1")
    assert done.code == 124 and "it goes on" in done.err
    api.runs["one"]["state"] = "succeeded"
    assert json.loads(dstack("wait", "one", "--json").out) == api.runs["one"]


def test_a_log_comes_whole_whatever_is_cut(api: ApiServer, dstack: Dstack) -> None:
    log = bytes(range(32, 127)) * 9000
    api.add_run("one", log)
    api.trouble.cuts = [10, 70_000, 70_001, len(log)]
    done = dstack("logs", "-f", "one")
    assert done.out.encode() == log and done.code == 0 and "trying again" in done.err
    assert dstack("logs", "--offset", str(len(log) - 3), "one").out.encode() == log[-3:]


def test_stop_restart_tag_untag(api: ApiServer, dstack: Dstack) -> None:
    api.add_run("one")
    assert dstack("stop", "one", "--group").code == 0
    assert json.loads(api.calls("POST", "/stop")[0][3]) == {"group": True}
    api.runs["one"]["state"] = "succeeded"
    assert dstack("restart", "-d", "one").out == "again-1\n"
    assert dstack("restart", "one").out == "again\n"
    assert dstack("tag", "one", "best").out == "train:best is on one\n"
    assert dstack("tag", "one", "train:a/b").code == 2
    assert dstack("untag", "train:best", "--repo", "local/demo").code == 0
    assert api.calls("DELETE", "")[0][1] == "/api/v1/repos/local/demo/tags/train/best"
    api.tags = [api._tag("train:best", "one")]
    assert "train:best" in dstack("tags").out and json.loads(dstack("tags", "--json").out) == api.tags


def test_repos_runners_users_prune(api: ApiServer, dstack: Dstack) -> None:
    assert "local/demo" in dstack("repos").out and "local/new" in dstack("repos", "add", "--json", "local/new").out
    assert "2 x A100 40.0 GB (1 busy)" in dstack("runners").out
    assert dstack("runners", "remove", "box").code == 0
    assert "ada" in dstack("users").out and "ada" in json.loads(dstack("users", "--json").out)[0]["name"]
    added = dstack("users", "add", "bob", "--role", "admin")
    assert added.out == "fresh\n" and "dstack config set token" in added.err
    assert json.loads(api.calls("POST", "/users")[0][3]) == {"name": "bob", "role": "admin"}
    assert dstack("users", "token", "ada").out == "renewed\n"
    assert dstack("users", "remove", "bob").code == 0
    dry = dstack("prune")
    assert "To be removed: 1 runs" in dry.out and "--yes" in dry.err
    assert dstack("prune", "--yes", "--days", "3").out.startswith("Removed")
    assert [json.loads(call[3])["dry_run"] for call in api.calls("POST", "/prune")] == [True, False]


def test_a_secret_comes_from_standard_input_alone(
    api: ApiServer, dstack: Dstack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, stored in ((b"pass word\n", "pass word"), (b"two\nlines\r\n", "two\nlines"), (b"\xc3\xa9", "é")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert dstack("secrets", "set", "KEY", "--repo", "local/demo").code == 0
        assert api.secrets == {"KEY": stored}
    for given in (b"", b"\n", b"\xff\xfe", b"x" * 70_000):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert dstack("secrets", "set", "KEY", "--repo", "local/demo").code == 2
    assert "KEY" in dstack("secrets", "--repo", "local/demo").out
    assert dstack("secrets", "delete", "KEY", "--repo", "local/demo").code == 0


def test_config_shows_origins_and_signs_in(
    api: ApiServer, dstack: Dstack, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    rows = json.loads(dstack("config", "--json").out)
    assert [(row["value"], row["origin"]) for row in rows[:2]] == [
        (api.url, "DSTACK_SERVER"),
        ("(set)", "DSTACK_TOKEN"),
    ]
    monkeypatch.delenv("DSTACK_SERVER")
    monkeypatch.delenv("DSTACK_TOKEN")
    assert dstack("config", "set", "server", api.url + "/").code == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"wrong\n")))
    assert dstack("config", "set", "token").code == 4
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"good-token\n")))
    assert "as ada (admin)" in dstack("config", "set", "token").out
    assert dstack("runs").code == 0
    file = home / "home" / "config" / "dstack" / "config.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    done = dstack("runs", "--json")
    assert done.code == 0 and "chmod 600" in done.err and done.out == "[]\n"
    dstack("config", "unset", "token")
    assert dstack("runs").code == 4
    dstack("config", "unset", "server")
    assert dstack("runs").code == 6


def test_artifacts_are_listed_and_brought_whole(api: ApiServer, dstack: Dstack, home: Path) -> None:
    big = bytes(range(256)) * 9000
    api.add_run("one")
    api.add_artifact("one", "a1", "model", {"model/w.bin": big, "model/s": b"small", "model/l": b"link:s"})
    api.add_artifact("one", "a2", "data", {"data/x.csv": b"1,2"})
    assert "model" in dstack("artifacts", "one").out and len(json.loads(dstack("artifacts", "one", "--json").out)) == 2
    assert dstack("artifacts", "one", "model/s").out.splitlines()[1].split()[0] == "model/s"
    api.trouble.cuts = [1_500_000]
    done = dstack("artifacts", "one", "--download", "out", "model")
    assert done.code == 0, done.err
    out = home / "out"
    assert (out / "model/w.bin").read_bytes() == big and (out / "model/l").read_bytes() == b"small"
    assert sorted(p.name for p in (out / "model").iterdir()) == ["l", "s", "w.bin"]
    assert not (out / "data").exists()
    ranges = [call[2].get("range") for call in api.calls("GET", "w.bin")]
    assert ranges[0] is None and ranges[1] == "bytes=1500000-"
    calls = len(api.calls("GET", "w.bin"))
    assert "3 B were fetched" in dstack("artifacts", "one", "--download", "out").err  # only what was not there
    assert len(api.calls("GET", "w.bin")) == calls
    assert dstack("artifacts", "one", "nothing", "--download", "out").code == 5


@pytest.mark.parametrize("path", ["../evil", "/tmp/evil", "a/../../evil", "way/evil"])
def test_a_hostile_artifact_stays_in_the_folder(api: ApiServer, dstack: Dstack, home: Path, path: str) -> None:
    (home / "out").mkdir()
    (home / "out" / "way").symlink_to(home / "elsewhere")
    (home / "elsewhere").mkdir()
    api.add_run("one")
    api.add_artifact("one", "a1", "x", {"l": b"link:../../etc", path: b"evil"})
    done = dstack("artifacts", "one", "--download", "out")
    assert done.code == 1 and "leads out of" in done.err
    assert list((home / "elsewhere").iterdir()) == [] and not (home / "out" / "l").is_symlink()


def test_wrong_bytes_are_thrown_away(api: ApiServer, dstack: Dstack, home: Path) -> None:
    api.add_run("one")
    api.add_artifact("one", "a1", "x", {"x/small": b"right", "x/large": b"y" * 2_000_000})
    for name in ("x/small", "x/large"):
        api.wrong_digests = {name}
        done = dstack("artifacts", "one", "--download", "out", name)
        assert done.code == 1 and "other bytes" in done.err
        assert list((home / "out" / "x").iterdir()) == []


def test_every_command_explains_itself(home: Path, dstack: Dstack) -> None:
    overview = dstack("--help").out
    for name in COMMANDS:
        assert f"  {name}" in overview
    for name, (module, _) in COMMANDS.items():
        if (Path(sys.modules["dstack.cli.main"].__file__ or "").parent / f"{module}.py").exists():
            done = dstack(*name.split(), "--help")
            assert done.code == 0 and done.out.startswith("usage: dstack " + name), name
    assert "124  it took longer" in dstack("help", "exit-codes").out
    assert dstack("help", "runs").out == dstack("runs", "--help").out
    assert dstack().code == 2 and dstack("--version").out == "dstack 0.1.0\n"


def test_init_writes_a_starter_and_adds_the_remote_once(api: ApiServer, dstack: Dstack, home: Path) -> None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (home / "train.py").write_text("print(1)")
    dry = dstack("init", "--dry-run", "--repo", "local/demo")
    assert dry.code == 0 and not (home / ".dstack").exists() and "would add the remote" in dry.out
    assert dstack("init", "--repo", "local/demo").code == 0
    assert "script: train.py" in (home / ".dstack/workflows.yaml").read_text()
    assert git("remote", "get-url", "dstack").strip() == f"{api.url}/git/local/demo.git"
    assert "+refs/notes/dstack:refs/notes/dstack" in git("config", "--get-all", "remote.dstack.fetch")
    assert "good-token" not in (home / ".git/config").read_text()
    (home / ".dstack/workflows.yaml").write_text("mine")
    again = dstack("init")
    assert again.code == 0 and "is there already" in again.out
    assert (home / ".dstack/workflows.yaml").read_text() == "mine"
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
    git("push", "-q", "dstack", "HEAD:refs/heads/main")  # git asks `dstack credential` for the password
    assert api.repositories.heads("local-demo")["refs/heads/main"] == git("rev-parse", "HEAD").strip()
