"""`dstack server` and `dstack-runner` as processes: how they start, beside each other, and how they leave."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from installation import Repository, Site
from machines import ADMIN_TOKEN, Machine, own_env, until

MakeSite = Callable[..., Site]
MakeTree = Callable[..., Repository]


def test_a_server_on_a_free_port_says_where_it_is_and_keeps_the_token(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ["dstack.cli.main", "server", "--port", "0", "--data", str(tmp_path / "data"), "--no-runner"]
    server = Machine("server", words, own_env(home), tmp_path / "log")
    server.spawn()
    try:
        until(lambda: "Sign in" in server.text or server.code is not None, 30, "it serves")
        url = re.search(r"dstack serves at (http://127\.0\.0\.1:\d+)\n", server.text)[1]
        link = re.search(r"http://\S+/sign-in\?code=\S+", server.text)[0]
        assert requests.get(f"{url}/healthz", timeout=5).text == "ok\n"
        answers = [requests.get(link, timeout=5, allow_redirects=False).status_code for _ in range(2)]
        assert answers[0] in (302, 303) and answers[1] not in (302, 303)  # good for one use
        config = next((home / "config").rglob("config.json"))
        assert config.stat().st_mode & 0o777 == 0o600
        runs = subprocess.run(
            [sys.executable, "-m", "dstack.cli.main", "runs", "--json"],
            env=own_env(home, DSTACK_SERVER=url), capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert (runs.returncode, runs.stdout) == (0, "[]\n")
        assert server.leave() == 0
    finally:
        server.kill()


@pytest.mark.parametrize(
    "words",
    [["dstack.cli.main", "server", "--no-runner"], ["dstack_runner", "start", "--server", "http://127.0.0.1:9"]],
)
def test_what_cannot_work_without_git_says_so_at_once(words: list[str], tmp_path: Path) -> None:
    env = {**own_env(tmp_path / "home"), "PATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-m", *words], env=env, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert "git is not installed, or not on PATH" in ended.stderr and "Traceback" not in ended.stderr


def test_the_runner_beside_the_server_works_and_leaves_with_it(make_site: MakeSite, repository: MakeTree) -> None:
    site = make_site(runner=True)
    until(lambda: [runner["state"] for runner in site.get("/runners")] == ["online"], 30, "its runner is online")
    run = site.wait(repository(site).push_workflow("echo fine"))
    assert run["state"] == "succeeded"
    children = [int(pid) for pid in subprocess.run(
        ["pgrep", "-P", str(site.server.pid)], capture_output=True, text=True
    ).stdout.split()]  # fmt: skip
    assert children
    assert site.server.leave() == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 5, "the runner has left too")
    site.assert_sound()


def test_a_second_server_on_the_same_data_is_refused(make_site: MakeSite) -> None:
    """F23."""
    site = make_site()
    second = subprocess.run(
        [sys.executable, "-m", "dstack.cli.main", "server", "--port", "0", "--data", str(site.server.data)],
        env=own_env(site.home), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert second.returncode == 1
    assert "another server uses" in second.stderr and "Traceback" not in second.stderr
    assert site.server.is_ready()


def test_a_runner_told_to_stop_takes_no_more_and_hands_its_job_on_or_ends_it(
    make_site: MakeSite, repository: MakeTree
) -> None:
    site = make_site()
    runner = site.runner("a", slots=2)
    tree = repository(site)
    name = tree.push_workflow("echo up; sleep 2; echo done")
    site.until_logged(name, "up")
    runner.send(signal.SIGTERM)
    until(lambda: [r["state"] for r in site.get("/runners")] == ["draining"], 10, "it drains")
    later = tree.push_workflow("true", message="later")
    assert site.wait(name)["state"] == "succeeded"
    assert runner.ended(30) == 0
    assert site.run(later)["state"] == "queued"
    site.runner("b")
    assert site.wait(later)["jobs"][0]["runner"] == "b"
    site.assert_sound()


@pytest.mark.parametrize("token", ["", "dst_wrong"])
def test_a_runner_without_a_good_token_says_so_and_ends(make_site: MakeSite, tmp_path: Path, token: str) -> None:
    site = make_site()
    env = own_env(tmp_path / "h", DSTACK_SERVER=site.server.url, DSTACK_TOKEN=token)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dstack_runner", "start"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 4, done.stderr
    assert "token" in done.stderr and "Traceback" not in done.stderr
    assert time.monotonic() - begun < 20
    assert ADMIN_TOKEN not in done.stderr


def test_an_annotated_tag_starts_its_runs_once_and_at_its_commit(make_site: MakeSite, repository: MakeTree) -> None:
    site = make_site()
    site.runner()
    tree = repository(site)
    text = "workflows: [{name: release, provider: bash, commands: [git tag], on: {push: {tags: ['v*']}}}]"
    sha = tree.commit({".dstack/workflows.yaml": text})
    tree.push()
    tree.git("tag", "-a", "-m", "one", "v1.0")
    said = tree.push("v1.0")
    assert [(run["workflow"], run["sha"]) for run in site.runs()] == [("release", sha)], said
    site.wait_all()
    site.server.kill()
    site.server.start()  # compares all refs with what it has handled
    tree.git("tag", "v1.1")
    tree.push("v1.1")
    until(lambda: len(site.runs()) == 2, 10, "the second tag has its run")
    assert [run["state"] for run in site.wait_all()] == ["succeeded"] * 2
    assert len(site.ledger.rows("SELECT id FROM deliveries WHERE guid LIKE 'reconciled%'")) == 0
    site.assert_sound()
