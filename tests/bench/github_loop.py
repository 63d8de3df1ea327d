"""How long people wait on GitHub: from a comment to the reaction and to the job's first line, from a job's end to its
final status. GitHub takes 50 ms longer for every call, and our writes keep their usual distance of a second.

The comment is the moment at which GitHub begins to send the webhook; the others are the moments at which GitHub has
the reaction and the status, and at which the server's log file got the only line that the job prints.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from figures import Figure, middle, p95
from scene import FINAL, RunTimes, Scene, connected, started, workflows

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from fake_github import App, FakeGitHub, Status

REPO = "acme/vision"
LINE = "the first line"
DELAY_MS = 50.0
TRAIN = f"""
name: train
provider: bash
commands:
  - echo '{LINE}'
  - sleep ${{{{ seconds }}}}.${{{{ round }}}}
  - printf 'accuracy\\n0.9\\n' > metrics.csv
metrics: {{file: metrics.csv, headline: accuracy}}
gate: accuracy >= base - 0.1
on: {{comment: /train}}
"""
VARIABLES = {".dstack/variables.yaml": "variables: {train: {seconds: 6, round: 0}}\n"}
CONTEXT = "dstack/train (manual)"


@dataclass(frozen=True, slots=True)
class Round:
    """Milliseconds."""

    eyes: float
    line: float
    final: float
    plain_eyes: float
    plain_line: float


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    count = 3 if quick else 12
    with FakeGitHub(root / "github") as github:
        app = github.make_app("dstack")
        with started(root / "ours", settings=connected(github, app)) as scene:
            desk = Desk(github, app, scene)
            desk.round(0)  # the first fetches, and makes tokens and connections
            rounds = [desk.round(number) for number in range(1, count + 1)]
    yield from _figures(rounds)


def _figures(rounds: list[Round]) -> Iterator[Figure]:
    def all_of(get: Callable[[Round], float]) -> list[float]:
        return [get(one) for one in rounds]

    eyes, line, final = all_of(lambda r: r.eyes), all_of(lambda r: r.line), all_of(lambda r: r.final)
    note = f"n={len(rounds)}, GitHub adds {DELAY_MS:.0f} ms a call"
    yield Figure(
        "comment -> eyes on GitHub: p95", "ms", p95(eyes), "<= 1000 ms", p95(eyes) <= 1000,
        middle(all_of(lambda r: r.plain_eyes)), "the two calls that it takes, one after the other",
        f"median {middle(eyes):.0f}; {note}",
    )  # fmt: skip
    yield Figure(
        "comment -> job's first line, warm: p95", "ms", p95(line), "<= 2000 ms", p95(line) <= 2000,
        middle(all_of(lambda r: r.plain_line)), "the same calls and GET pull; clone, checkout, sh -c echo",
        f"median {middle(line):.0f}; {note}",
    )  # fmt: skip
    yield Figure(
        "job's end -> final status on GitHub: median", "ms", middle(final), "<= 1000 ms", middle(final) <= 1000,
        note=f"p95 {p95(final):.0f}, slowest {max(final):.0f}; {note}",
    )  # fmt: skip


class Desk:
    """A pull request at which somebody comments again and again, each time when all of the last was told."""

    def __init__(self, github: FakeGitHub, app: App, scene: Scene) -> None:
        self._github, self._scene = github, scene
        app.webhook_url = scene.url + "/webhooks/github"
        github.create_repo(REPO, files={"train.py": "print(1)\n", **workflows(TRAIN), **VARIABLES})
        github.set_permission(REPO, "wendy", "write")
        github.install(app, "acme")
        _wait(lambda: scene.query("SELECT 1 FROM repos WHERE forge_id != ''"))
        self._sha = github.push(REPO, "faster", {"train.py": "print(2)\n"}, author="wendy")
        self._number = github.open_pull(REPO, "faster", author="wendy")
        github.flush()
        self._token = github.user_token("wendy")
        github.delay_ms = DELAY_MS

    def round(self, number: int) -> Round:
        self._rest()
        began = time.time()
        comment = self._github.comment(REPO, self._number, "wendy", f"/train --round {number + 10}")
        _wait(lambda: self._github.reactions(comment))
        run = self._run_of(str(number + 10))
        final = _wait(lambda: self._final(run.name))
        assert isinstance(final, Status)
        run = self._run_of(str(number + 10))
        eyes = self._github.comment_of(comment).reactions[0]
        plain_eyes, plain_line = self._plain(comment)
        return Round(
            1000 * (eyes.created_at - began), 1000 * (self._scene.log_stored_at(run, LINE) - began),
            1000 * (final.created_at - run.finished), plain_eyes, plain_line,
        )  # fmt: skip

    def _run_of(self, number: str) -> RunTimes:
        """The run of a round, once there is one."""

        def found() -> RunTimes | None:
            names = self._scene.query("SELECT name FROM runs WHERE variables LIKE ?", f'%"{number}"%')
            return next((run for run in self._scene.runs(self._sha) if names and run.name == names[0][0]), None)

        run = _wait(found)
        assert isinstance(run, RunTimes)
        return run

    def _final(self, name: str) -> Status | None:
        """The status of this run's end."""
        if not self._scene.query(f"SELECT 1 FROM runs WHERE name = ? AND state IN {FINAL}", name):
            return None
        status = self._github.statuses(REPO, self._sha).get(CONTEXT)
        is_final = status is not None and status.state == "success" and (status.target_url or "").endswith(name)
        return status if is_final else None

    def _rest(self) -> None:
        """Nothing is due to be told."""
        _wait(lambda: not self._scene.query("SELECT 1 FROM outbox WHERE not_before <= ?", time.time()))
        time.sleep(1.5)  # a person thinks longer; the distance between two writes has passed

    def _plain(self, comment: int) -> tuple[float, float]:
        """The same by plain tools, in ms: until the reaction, and until the line."""
        began = time.perf_counter()
        with requests.Session() as http:
            http.trust_env = False
            http.headers["Authorization"] = f"token {self._token}"
            http.get(f"{self._github.api_url}/repos/{REPO}/collaborators/wendy/permission").raise_for_status()
            path = f"/repos/{REPO}/issues/comments/{comment}/reactions"
            http.post(self._github.api_url + path, json={"content": "heart"}).raise_for_status()
            eyes = time.perf_counter() - began
            http.get(f"{self._github.api_url}/repos/{REPO}/pulls/{self._number}").raise_for_status()
        with tempfile.TemporaryDirectory(dir=self._scene.root) as folder:
            mirror = self._scene.data / "repos" / "1.git"
            self._scene.git(Path(folder), "clone", "--quiet", "--shared", "--no-checkout", str(mirror), "w")
            self._scene.git(Path(folder) / "w", "checkout", "--quiet", "--detach", self._sha)
            subprocess.run(["sh", "-c", f"echo '{LINE}'"], check=True, capture_output=True)
            return 1000 * eyes, 1000 * (time.perf_counter() - began)


def _wait(condition: Callable[[], Any], within_s: float = 60.0) -> Any:
    """What `condition` answers once it is true."""
    deadline = time.monotonic() + within_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError("waited in vain")
        time.sleep(0.01)
    return answer
