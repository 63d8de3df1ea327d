"""`dstack run` for real: a repository, a push to a real Git remote, a started run, its log; and as processes: Ctrl-C,
closed pipes, narrow and old terminals, completion, and the background server."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from api_server import TOKEN, ApiServer, Host, page, wait_for

from dstack.cli import local_server
from dstack.cli.config_file import load_sign_ins, save_sign_ins

Dstack = Callable[..., Any]
Start = Callable[..., subprocess.Popen[bytes]]

WORKFLOWS = """\
workflows:
  - name: prepare
    provider: python
    python_script: prepare.py
    artifacts: [data]
    resources:
      gpu: ${{ pgpu }}
"""


def git(*words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *identity, *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = home / "demo"
    (folder / ".dstack").mkdir(parents=True)
    monkeypatch.chdir(folder)
    git("init", "-q", "-b", "main")
    (folder / ".dstack/workflows.yaml").write_text(WORKFLOWS)
    (folder / ".dstack/variables.yaml").write_text("variables:\n  prepare:\n    pgpu: 0\n")
    (folder / "prepare.py").write_text("print('hello')\n")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    return folder


def test_a_clean_tree_runs_its_commit(api: ApiServer, dstack: Dstack, project: Path) -> None:
    done = dstack("run", "prepare", "--pgpu", "4")
    assert (done.code, done.out) == (0, "hello\n"), done.err
    assert "new-run-1 succeeded in 4.0s, accuracy 0.953" in done.err
    request = api.requests[0]
    assert (request["repo"], request["sha"], request["parent"]) == ("local/demo", git("rev-parse", "HEAD"), "")
    assert (request["workflow"], request["branch"], request["variables"]) == ("prepare", "main", {"pgpu": "4"})
    assert api.repositories.has_commit("local-demo", request["sha"])


def test_a_changed_tree_is_shipped_as_it_is(api: ApiServer, dstack: Dstack, project: Path) -> None:
    (project / "prepare.py").write_text("print('changed')\n")
    (project / "new.bin").write_bytes(b"\0\1\2")
    (project / ".git/hooks/pre-push").write_text("#!/bin/sh\nexit 1\n")
    (project / ".git/hooks/pre-push").chmod(0o755)
    before = (git("status", "--porcelain"), git("for-each-ref"), (project / ".git/index").read_bytes())
    done = dstack("run", "-d", "prepare")
    assert (done.code, done.out) == (0, "new-run-1\n"), done.err
    request = api.requests[0]
    assert request["parent"] == git("rev-parse", "HEAD") != request["sha"]
    store = api.repositories.path("local-demo")
    assert git("-C", str(store), "show", f"{request['sha']}:prepare.py") == "print('changed')"
    assert git("-C", str(store), "for-each-ref", "--format=%(refname)") == f"refs/dstack/work/{request['sha']}"
    assert (git("status", "--porcelain"), git("for-each-ref"), (project / ".git/index").read_bytes()) == before
    assert dstack("run", "-d", "prepare").code == 0  # the same tree again: nothing to send, another run
    assert api.requests[1]["sha"] == request["sha"] and api.requests[1]["idempotency_key"] != request["idempotency_key"]


def test_the_users_own_git_settings_do_no_harm(
    api: ApiServer, dstack: Dstack, project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    ran = home / "ran"
    (home / "hooks").mkdir()
    (home / "hooks/pre-push").write_text(f"#!/bin/sh\ntouch {ran}; exit 1\n")
    (home / "hooks/pre-push").chmod(0o755)
    (home / ".gitconfig").write_text(
        f"""[core]
        hooksPath = {home}/hooks
        fsmonitor = touch {ran}
        autocrlf = true
        [credential]
        helper = !touch {ran}
        [push]
        followTags = true
        pushOption = ci.skip
        gpgSign = true
        [commit]
        gpgSign = true
        [http]
        extraHeader = "Authorization: Basic bm86bm8="
        [status]
        showUntrackedFiles = no
        relativePaths = true
        [user]
        useConfigOnly = true
        """
    )
    git("tag", "-a", "v1", "-m", "v1")
    (project / "new.txt").write_bytes(b"a\r\nb\n")
    done = dstack("run", "-d", "prepare")
    assert done.code == 0, done.err
    store, sha = str(api.repositories.path("local-demo")), api.requests[0]["sha"]
    shown = subprocess.run(["git", "-C", store, "cat-file", "blob", f"{sha}:new.txt"], check=True, capture_output=True)
    assert shown.stdout == b"a\r\nb\n" and "refs/tags" not in git("-C", store, "for-each-ref") and not ran.exists()
    assert dstack("run", "-d", "prepare", "--token", "wrong").code == 4 and not ran.exists()


def test_a_password_in_the_address_of_origin_is_shown_and_sent_nowhere(
    api: ApiServer, dstack: Dstack, project: Path
) -> None:
    git("remote", "add", "origin", "https://ada:hunter2@example.org/acme/vision.git")
    (project / "prepare.py").write_text("print('changed')\n")
    told = [dstack(*words) for words in (["run", "prepare"], ["plan"], ["init"], ["config"], ["run", "prepare", "-d"])]
    assert [done.code for done in told] == [0] * 5, told
    assert {request["repo"] for request in api.requests} == {"acme/vision"}
    assert not any("hunter2" in done.out + done.err for done in told)
    assert "hunter2" not in repr(api.seen) + repr(api.requests)


def test_a_provider_without_an_entry(api: ApiServer, dstack: Dstack, project: Path) -> None:
    words = "run python prepare.py --epochs 3 -r requirements.txt -a model --gpu 1 -e K=V -d"
    assert dstack(*words.split()).code == 0
    assert (api.requests[0]["provider"], api.requests[0]["workflow"]) == ("python", "")
    assert api.requests[0]["options"]["args"] == ["--epochs", "3"]


def test_a_lost_answer_starts_no_second_run(api: ApiServer, dstack: Dstack, project: Path) -> None:
    api.trouble.answers = [page(504), page(503)]
    assert dstack("run", "-d", "prepare").out == "new-run-1\n"
    assert len(api.runs) == 1 and len(api.calls("POST", "/runs")) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "prepar"], 2, "Did you mean prepare?"),
        (["run", "prepare", "--pgp", "1"], 2, "Did you mean --pgpu?"),
        (["run"], 2, "Workflows here: prepare"),
        (["run", "prepare", "--pgpu", "many"], 1, "gpu"),
        (["run", "python", "x.py", "--gpu", "lots"], 1, "gpu"),
        (["run", "bash", "--var", "a=b", "make"], 2, "no variables"),
        (["run", "prepare", "--repo", "nonsense"], 1, "owner/name"),
        (["run", "prepare", "--max-upload", "1B"], 1, "over the limit"),
        (["run", "prepare", "--token", "wrong"], 4, "does not accept the token"),
    ],
)
def test_what_cannot_run_says_why(
    api: ApiServer, dstack: Dstack, project: Path, words: list[str], code: int, said: str
) -> None:
    (project / "untracked").write_text("more than a byte")
    done = dstack(*words)
    assert done.code == code and said in done.err and api.requests == [], done.err


def test_problems_of_the_files_are_said_before_anything_is_sent(api: ApiServer, dstack: Dstack, project: Path) -> None:
    (project / ".dstack/workflows.yaml").write_text(WORKFLOWS + "    artefacts: [x]\n")
    done = dstack("run", "prepare")
    assert done.code == 1 and ".dstack/workflows.yaml:8:" in done.err and api.seen == []


def test_a_dry_run_sends_nothing(api: ApiServer, dstack: Dstack, project: Path) -> None:
    (project / ".env").write_text("KEY=1")
    done = dstack("run", "prepare", "--dry-run", "--pgpu", "2")
    assert done.code == 0 and "pgpu=2" in done.out and ".env" in done.err and api.seen == []
    assert json.loads(dstack("run", "prepare", "--dry-run", "--json").out)["workflow"] == "prepare"


def test_help_of_a_workflow_offers_its_variables(home: Path, dstack: Dstack, project: Path) -> None:
    out = dstack("run", "prepare", "--help").out
    assert "--pgpu VALUE" in out and "usage: dstack run prepare" in out


def test_ctrl_c_leaves_the_run_alone(api: ApiServer, start: Start) -> None:
    api.add_run("one", b"first\n", state="running", finished_at=None)
    process = start("logs", "-f", "one")
    assert process.stdout is not None and process.stdout.readline() == b"first\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and b"The run goes on" in err and b"dstack stop one" in err
    assert b"Traceback" not in err and api.runs["one"]["state"] == "running" and not api.calls("POST", "stop")


def test_a_log_goes_on_after_the_server_was_away(home: Path, start: Start) -> None:
    first = Host()
    api = ApiServer(home / "server", first)
    api.add_run("one", b"before\n", state="running", finished_at=None)
    process = start("logs", "-f", "one", env={"DSTACK_SERVER": api.url, "DSTACK_TOKEN": TOKEN})
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"before\n"
    first.stop()
    assert b"trying again" in process.stderr.readline()
    api.logs["one"] += b"meanwhile\n"
    api.runs["one"].update(state="succeeded")
    second = Host(first.port, first.app)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        second.stop()
    assert (out, process.returncode) == (b"meanwhile\n", 0) and b"one succeeded" in err


def test_a_queued_run_says_what_it_waits_for(api: ApiServer, start: Start) -> None:
    why = "needs 4 GPUs; the largest runner has 1"
    api.add_run("one", b"log\n", state="queued", reason=why, started_at=None, finished_at=None)
    process = start("logs", "-f", "one")
    assert process.stderr is not None and process.stderr.readline().decode() == f"queued: {why}\n"
    api.runs["one"].update(state="succeeded", reason="")
    out, _ = process.communicate(timeout=20)
    assert out == b"log\n" and process.returncode == 0


def test_a_closed_pipe_is_quiet(api: ApiServer, start: Start) -> None:
    api.add_run("one", b"line\n" * 100_000, state="running", finished_at=None)
    process = start("logs", "-f", "one")
    assert process.stdout is not None and process.stdout.readline() == b"line\n"
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(20) == 141 and err == b"The output was closed; the run one goes on.\n"


@pytest.mark.parametrize("words", [["runs"], ["runs", "one"], ["runs", "--json"], ["runners"], ["--help"]])
def test_an_old_narrow_terminal_is_no_crash(api: ApiServer, start: Start, words: list[str]) -> None:
    api.add_run("one", workflow="träin-漢", branch="ветка")
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1", "COLUMNS": "20"}
    out, err = start(*words, env=env).communicate(timeout=20)
    assert err == b"" and out
    if words == ["runs"]:
        assert max(len(line) for line in out.decode("latin-1").splitlines()) <= 40  # escapes of foreign letters


def test_a_terminal_sees_colours_but_no_commands(api: ApiServer, home: Path) -> None:
    api.add_run("one", b"\x1b[32mok\x1b[0m \x1b]52;c;ZXZpbA==\x07\x1b[2Jdone\n")
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "dstack.cli.main", "logs", "one"]
    process = subprocess.Popen(argv, stdout=slave, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    assert process.wait(20) == 0
    shown = os.read(master, 4096)
    os.close(master)
    process.communicate()
    assert shown == b"\x1b[32mok\x1b[0m done\r\n"


def test_a_person_sees_what_is_sent_and_brought(api: ApiServer, project: Path) -> None:
    (project / "big.bin").write_bytes(os.urandom(3_000_000))
    api.add_run("one")
    api.add_artifact("one", "a1", "x", {"x": os.urandom(3_000_000)})
    for words, said in (
        (["run", "-d", "prepare"], b"sending: 100%"),
        (["artifacts", "one", "--download", "o"], b"% of"),
    ):
        master, slave = pty.openpty()
        argv = [sys.executable, "-m", "dstack.cli.main", *words]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, "COLUMNS": "80"})
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 4096):
                shown += data
        except OSError:  # how a terminal says that its other end is closed
            pass
        os.close(master)
        assert process.wait(20) == 0 and said in shown


def complete(line: str) -> list[str]:
    """What the shell would offer after `line`."""
    reading, writing = os.pipe()
    env = {**os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "bash", "COMP_LINE": line, "COMP_TYPE": "9"}
    code = f"import os; os.dup2({writing}, 8); from dstack.cli.main import main; main([])"
    subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"},
        pass_fds=[writing],
        timeout=30,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        return answer.read().decode().split()


def test_completion_knows_commands_workflows_variables_and_runs(api: ApiServer, project: Path) -> None:
    api.add_run("brave-otter-1")
    assert complete("dstack rest") == ["restart"]
    assert "prepare" in complete("dstack run pr")
    assert complete("dstack run prepare --pg") == ["--pgpu"]
    assert complete("dstack logs br") == ["brave-otter-1"]


def test_completion_scripts(home: Path, dstack: Dstack) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = dstack("completion", shell)
        assert done.code == 0 and "dstack" in done.out


STAND_IN = """\
import http.server, os, signal, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *words): pass
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The background processes a test has started take a free port, and are ended and collected."""
    monkeypatch.setattr(local_server, "PORT", 0)
    yield
    for child in local_server._children:
        child.kill()
        child.wait()
    local_server._children.clear()


@pytest.fixture
def stand_in(home: Path, children: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real life of a background process, with a small program in the server's place."""
    monkeypatch.setattr(local_server, "serving_argv", lambda port: [sys.executable, "-c", STAND_IN, str(port)])


@pytest.mark.usefixtures("stand_in")
def test_a_server_of_ones_own_is_started_found_and_ended(dstack: Dstack) -> None:
    assert dstack("server", "status").code == 6
    assert dstack("server", "stop").code == 0
    started = dstack("server", "start")
    try:
        stored = load_sign_ins()
        assert started.code == 0 and stored.server in started.out and stored.token_for(stored.server)
        status = json.loads(dstack("server", "status", "--json").out)
        assert status["running"] and status["url"] == stored.server
        assert dstack("server", "start").code == 0
        assert json.loads(dstack("server", "status", "--json").out)["pid"] == status["pid"]
    finally:
        assert dstack("server", "stop").code == 0
    assert local_server.birth_of(status["pid"]) is None and dstack("server", "status").code == 6
    save_sign_ins(load_sign_ins()._replace(tokens={stored.server: "kept"}))
    try:
        assert local_server.is_ours_and_ended(stored.server)
        assert local_server.ensure_running() == (stored.server, "kept")
    finally:
        dstack("server", "stop")


@pytest.mark.usefixtures("stand_in")
def test_two_commands_at_once_start_one_server(dstack: Dstack) -> None:
    with ThreadPoolExecutor() as threads:
        found = list(threads.map(lambda _: local_server.ensure_running(), range(4)))
    assert len(set(found)) == 1 and len(local_server._children) == 1
    assert dstack("server", "stop").code == 0


@pytest.mark.usefixtures("home", "children")
def test_a_server_that_does_not_come_up_shows_its_log(dstack: Dstack, monkeypatch: pytest.MonkeyPatch) -> None:
    code = textwrap.dedent("import sys; print('the port is taken'); sys.exit(1)")
    monkeypatch.setattr(local_server, "serving_argv", lambda port: [sys.executable, "-c", code])
    done = dstack("server", "start")
    assert done.code == 1 and "the port is taken" in done.err and load_sign_ins().server == ""


@pytest.mark.usefixtures("stand_in", "home")
def test_run_starts_a_server_where_none_is_configured(dstack: Dstack, project: Path) -> None:
    try:
        done = dstack("run", "prepare")
        assert "started yours at http://127.0.0.1:" in done.err
        assert "dstack server stop" in done.err
    finally:
        wait_for(lambda: dstack("server", "stop").code == 0)
