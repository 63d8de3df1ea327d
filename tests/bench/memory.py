"""What the server keeps in memory with a GitHub App connected: idle, after 1 000 runs that are told to GitHub, and
after a burst of 2 000 webhooks on top of that. One server goes through all of it.

The floor is a bare Starlette handler that commits each body to SQLite, before and after the same webhooks. GitHub is
written to without the usual distance between two writes, or telling it of 1 000 runs would take an hour.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
from figures import Figure
from scene import Scene, connected, environment, filler, started, workflows
from webhook_load import request, send_all
from webhooks import BURST_CLIENTS, PATH, REPO, WORKFLOW, push_payload, scene_wait

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from fake_github import App, FakeGitHub

MANY = "acme/many"
WORKFLOWS, SLOTS = 10, 8
FLOOR = "Starlette and SQLite alone, each body committed"
REST_S = 5.0  # what starting left behind is not what an idle server holds


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    pushed, rounds, hooks = (4, 2, 400) if quick else (20, 5, 2000)
    _compile(root)
    idle_floor, burst_floor = _floor(root, hooks)
    with FakeGitHub(root / "github") as github:
        app = github.make_app("dstack")
        settings = connected(github, app) | {"DSTACK_GITHUB_WRITE_GAP_S": "0"}
        with started(root / "ours", slots=SLOTS, settings=settings) as scene:
            sha = _introduce(github, app, scene)
            idle = _rested(scene)
            after_runs = []
            for _ in range(rounds):
                _run_all(github, scene, pushed)
                after_runs.append(_rested(scene))
            installation = next(iter(github.installations))
            _burst(scene.url, _pushes(app, hooks, github.repo(REPO).id, installation, sha))
            scene_wait(lambda: not scene.query("SELECT 1 FROM deliveries WHERE state = 'received' LIMIT 1"), 900)
            after_burst = _rested(scene)
    yield Figure("server memory (RSS), idle, App connected", "MB", idle, "<= 120 MB", idle <= 120, idle_floor, FLOOR)
    each, said = pushed * WORKFLOWS, ", ".join(f"{value:.0f}" for value in after_runs)
    flat = after_runs[-1] - after_runs[0] <= 6
    yield Figure(
        f"the same after {rounds * each} runs told to GitHub", "MB", after_runs[-1], "<= 120 MB, flat",
        flat and after_runs[-1] <= 120, note=f"after each {each}: {said} MB",
    )  # fmt: skip
    yield Figure(
        f"the same after {hooks} webhooks more, {BURST_CLIENTS} clients", "MB", after_burst, "<= 120 MB",
        after_burst <= 120, burst_floor, FLOOR,
    )  # fmt: skip


def _compile(root: Path) -> None:
    """Byte code as an installation has it: a process that has to compile everything first keeps some 20 MB of that."""
    modules = "dstack.cli.main, dstack.server.serve, dstack.server.gateways.github.client"
    subprocess.run([sys.executable, "-c", f"import {modules}"], env=environment(root), check=True)


def _floor(root: Path, hooks: int) -> tuple[float, float]:
    """Of the bare server, before and after the webhooks."""
    with FakeGitHub(root / "nobody") as github, _bare(root / "bare.db") as (url, process):
        time.sleep(REST_S)
        before = process.memory_info().rss / 1e6
        _burst(url, _pushes(github.make_app("floor"), hooks, 1, None, "0" * 40))
        return before, process.memory_info().rss / 1e6


@contextlib.contextmanager
def _bare(database: Path) -> Iterator[tuple[str, psutil.Process]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("bare_webhooks.py")
    process = subprocess.Popen([sys.executable, str(script), str(port), str(database)])
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _pushes(app: App, count: int, repo_id: int, installation: int | None, sha: str) -> list[bytes]:
    """Of new branches at a commit."""
    return [
        request(PATH, "push", str(uuid.uuid4()), push_payload(repo_id, installation, f"b{n}", sha), app.webhook_secret)
        for n in range(count)
    ]


def _burst(url: str, requests: list[bytes]) -> None:
    if bad := [status for status in send_all(url, requests, BURST_CLIENTS).statuses if status != 202]:
        raise RuntimeError(f"{len(bad)} webhooks were not taken: {bad[:5]}")


def _introduce(github: FakeGitHub, app: App, scene: Scene) -> str:
    """Two repositories the server has heard of and nobody has pushed to since; a commit of the one for webhooks."""
    app.webhook_url = scene.url + PATH
    many = [f"name: w{number}\nprovider: bash\ncommands: ['true']" for number in range(WORKFLOWS)]
    github.create_repo(MANY, files={**filler(50, 8, 70_000), **workflows(*many)})
    github.create_repo(REPO, files=workflows(WORKFLOW))
    sha = github.push(REPO, "main", {"a.txt": "1"})  # before the App is installed: nobody is told
    github.install(app, "acme")
    scene_wait(lambda: len(scene.query("SELECT 1 FROM repos WHERE forge_id != ''")) == 2)
    return sha


def _run_all(github: FakeGitHub, scene: Scene, pushed: int) -> None:
    """Pushes of as many new branches, at each of which all workflows run, until all of it was told."""
    names = [uuid.uuid4().hex for _ in range(pushed)]
    for sha in [github.push(MANY, name, {"change.txt": name}) for name in names]:
        scene.wait(sha, within_s=300, every_s=0.5)
    scene_wait(lambda: not scene.query("SELECT 1 FROM outbox WHERE not_before <= ?", time.time()), 300)


def _rested(scene: Scene) -> float:
    time.sleep(REST_S)
    return scene.rss_mb()
