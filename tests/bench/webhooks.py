"""Webhooks: how many a second are verified, committed and answered, and how long an answer takes in a burst.

The floor is a bare Starlette handler that commits each body to SQLite (synchronous=FULL), on the same machine in turn.
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
from typing import Any

from figures import Figure, middle
from scene import Scene, started, workflows, write
from webhook_load import Sent, request, send_all

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from fake_github import App, FakeGitHub

PATH = "/webhooks/github"
REPO = "acme/vision"
WORKFLOW = "name: train\nprovider: bash\ncommands: ['true']\nresources: {labels: [nobody]}"
LOGGING = "name: talk\nprovider: bash\ncommands: ['while :; do seq 1 2000; sleep 0.1; done']\non: manual"
RATE_CLIENTS, BURST_CLIENTS = 16, 32


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    count, rounds = (400, 2) if quick else (2000, 5)
    with FakeGitHub(root / "github") as github:
        app = github.make_app("dstack")
        settings = {
            "DSTACK_GITHUB_APP_ID": str(app.id), "DSTACK_GITHUB_PRIVATE_KEY": app.pem,
            "DSTACK_GITHUB_WEBHOOK_SECRET": app.webhook_secret, "DSTACK_GITHUB_API_URL": github.api_url,
            "DSTACK_GITHUB_URL": github.url,
        }  # fmt: skip
        with started(root / "ours", slots=10, settings=settings) as scene:
            sha = _known(github, app, scene)
            rates, floors, after = _rates(root, scene, app, count, rounds)
            alone = _burst(scene, github, app, sha, count)
            _let_jobs_log(scene)
            with_logs = _burst(scene, github, app, sha, count)
    ours, floor = middle([sent.rate for sent in rates]), middle([sent.rate for sent in floors])
    worst = max(sent.ms(0.99) for sent in rates)
    yield Figure(
        f"webhooks answered, {RATE_CLIENTS} clients", "1/s", ours, ">= 50 % of the floor", ours >= floor / 2, floor,
        "Starlette and SQLite alone, each body committed",
        f"{100 * ours / floor:.0f} % of the floor; all {count} handled {middle(after):.1f} s after the last answer",
    )  # fmt: skip
    yield Figure(
        f"webhook -> answer, {RATE_CLIENTS} clients: p99", "ms", worst, "<= 100 ms", worst <= 100,
        max(sent.ms(0.99) for sent in floors), "the same", "worst of the rounds",
    )  # fmt: skip
    yield _burst_figure(f"burst of {count} pushes, {BURST_CLIENTS} clients: p99", alone, 250)
    yield _burst_figure("the same while 10 jobs log: p99", with_logs, 500)


def _burst_figure(name: str, burst: tuple[Sent, int], goal: float) -> Figure:
    sent, lost = burst
    p99 = sent.ms(0.99)
    note = f"median {sent.ms(0.5):.0f}, slowest {1000 * max(sent.took):.0f}; lost or doubled: {lost}"
    return Figure(name, "ms", p99, f"<= {goal:.0f} ms, none lost", p99 <= goal and not lost, note=note)


def _known(github: FakeGitHub, app: App, scene: Scene) -> str:
    """A repository that the server has fetched once; its commit."""
    app.webhook_url = scene.url + PATH
    github.create_repo(REPO, files=workflows(WORKFLOW))
    github.install(app, "acme")
    sha = github.push(REPO, "main", {"a.txt": "1"})
    scene_wait(lambda: scene.query("SELECT 1 FROM runs WHERE sha = ?", sha))
    return sha


def scene_wait(condition: Any, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("waited in vain")
        time.sleep(0.05)


def _rates(root: Path, scene: Scene, app: App, count: int, rounds: int) -> tuple[list[Sent], list[Sent], list[float]]:
    """Ours and the floor's in turn, so that whatever else the machine does meets both; and the seconds from our last
    answer until all had been handled: what is answered first must not be paid for later."""
    ours, floors, after = [], [], []
    with _bare(root / "bare.db") as bare:
        for _ in range(rounds):
            ours.append(_checked(send_all(scene.url, _pushes(app, count), RATE_CLIENTS)))
            answered = time.monotonic()
            _quiet(scene)
            after.append(time.monotonic() - answered)
            floors.append(_checked(send_all(bare, _pushes(app, count), RATE_CLIENTS)))
    return ours, floors, after


def _pushes(app: App, count: int) -> list[bytes]:
    """Of a repository where the App is not: taken in, looked at and ignored, so that what is measured is the door."""
    return [
        request(PATH, "push", str(uuid.uuid4()), push_payload(99999999, None, f"b{n}", f"{n:040x}"), app.webhook_secret)
        for n in range(count)
    ]


def push_payload(repo_id: int, installation: int | None, branch: str, sha: str) -> dict[str, Any]:
    """About as long as GitHub's own."""
    commit = {
        "id": sha, "tree_id": sha, "distinct": True, "message": "Change the training\n\n" + "words " * 40,
        "author": {"name": "Octo Cat", "email": "octocat@example.org", "username": "octocat"}, "added": [],
        "removed": [], "modified": [f"src/file_{n}.py" for n in range(20)],
    }  # fmt: skip
    about = {f"{name}_url": f"https://api.github.com/repos/{REPO}/{name}{{/more}}" for name in _URLS}
    return {
        "ref": f"refs/heads/{branch}", "before": "0" * 40, "after": sha, "created": True, "deleted": False,
        "forced": False, "base_ref": None, "commits": [commit] * 3, "head_commit": commit,
        "repository": {"id": repo_id, "full_name": REPO, "private": True, "default_branch": "main", **about},
        "pusher": {"name": "octocat", "email": "octocat@example.org"},
        "sender": {"login": "octocat", "id": 583231, "type": "User"},
        **({"installation": {"id": installation}} if installation else {}),
    }  # fmt: skip


_URLS = [
    "keys", "hooks", "forks", "teams", "events", "assignees", "branches", "tags", "blobs", "statuses", "languages",
    "stargazers", "contributors", "subscribers", "commits", "comments", "contents", "compare", "merges", "archive",
    "issues", "pulls", "milestones", "notifications", "labels", "releases", "deployments", "git_refs", "git_tags",
]  # fmt: skip


def _burst(scene: Scene, github: FakeGitHub, app: App, sha: str, count: int) -> tuple[Sent, int]:
    """Pushes of new branches, each of which makes a run: handlers are at work meanwhile. Answers how many deliveries
    there are too few or too many."""
    number, installation = github.repo(REPO).id, next(iter(github.installations))
    mark = uuid.uuid4().hex[:6]
    requests = [
        request(
            PATH, "push", str(uuid.uuid4()), push_payload(number, installation, f"{mark}-{n}", sha), app.webhook_secret
        )
        for n in range(count)
    ]
    before = _stored(scene)
    sent = _checked(send_all(scene.url, requests, BURST_CLIENTS))
    return sent, abs(_stored(scene) - before - count)


def _stored(scene: Scene) -> int:
    return int(str(scene.query("SELECT COUNT(*) FROM deliveries WHERE kind = 'github'")[0][0]))


def _quiet(scene: Scene) -> None:
    scene_wait(lambda: not scene.query("SELECT 1 FROM deliveries WHERE state = 'received' LIMIT 1"), 300)


def _checked(sent: Sent) -> Sent:
    if bad := [status for status in sent.statuses if status != 202]:
        raise RuntimeError(f"{len(bad)} webhooks were not taken: {bad[:5]}")
    return sent


def _let_jobs_log(scene: Scene) -> None:
    """Ten jobs that write about 100 kB a second each."""
    names = [LOGGING.replace("talk", f"talk{n}").replace("on: manual", "on: push") for n in range(10)]
    repo = scene.new_repo("talk", workflows(*names))
    write(repo, {"a.txt": "1"})
    sha = scene.commit(repo)
    scene.push(repo)
    scene_wait(
        lambda: scene.query("SELECT COUNT(*) FROM runs WHERE sha = ? AND state = 'running'", sha)[0][0] == 10, 300
    )


@contextlib.contextmanager
def _bare(database: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("bare_webhooks.py")
    process = subprocess.Popen([sys.executable, str(script), str(port), str(database)])
    try:
        scene_wait(lambda: _answers(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
