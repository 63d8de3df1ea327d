"""A repository on the fake GitHub, strangers with forks of it, and the whole server with runners beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from joined_github import REPO, Joined, joined
from served_api import ARunner, Held, wait_for
from sqlmodel import select

from dstack.server.models import Approval, Delivery, Run
from dstack.server.store.deliveries import delivery_by_id
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.deliveries import receive_delivery
from dstack.wire.states import Reason

WRITER, READER = "wendy", "rita"
WORKFLOWS = """
workflows:
  - name: train
    provider: bash
    commands: [echo base]
    secrets: [TOKEN]
    tag: latest
    concurrency: prod
    on: {push: , pull_request: }
  - {name: evaluate, provider: bash, commands: [echo base], depends-on: [train], on: {pull_request: }}
"""
GPUS = WORKFLOWS.replace("    concurrency: prod", "    resources: {gpu: 2}")
EVIL = """
workflows:
  - {name: train, provider: bash, commands: [echo evil], secrets: [TOKEN], on: {pull_request: }}
  - {name: steal, provider: bash, commands: [env], secrets: [TOKEN], on: {pull_request: }}
"""


@dataclass
class Forks(Joined):
    """`fork_pull` opens a stranger's pull request; `plain` is an everyday runner, `taker` takes strangers' work."""

    numbers: Iterator[int] = field(default_factory=count)
    _runners: dict[str, ARunner] = field(default_factory=dict)

    def fork_pull(self, author: str = "", files: dict[str, str] | None = None, commit_author: str = "") -> int:
        """Its number."""
        author = author or f"stranger{next(self.numbers)}"
        mine = f"{author}/vision"
        if self.fake.find_repo(mine) is None:
            self.fake.fork(REPO, author)
        branch = f"b{next(self.numbers)}"
        changed = files or {"train.py": f"print({branch!r})\n"}
        self.fake.commit(mine, branch, changed, "Better", commit_author or author, parent=self.fake.head(REPO))
        number = self.fake.open_pull(REPO, branch, author=author, head_repo=mine)
        self.settle()
        return number

    def head(self, number: int) -> str:
        return self.pull(number).head_sha

    def push_pull(self, number: int, files: dict[str, str] | None = None) -> str:
        sha = self.fake.push_pull(REPO, number, files or {"train.py": f"print({next(self.numbers)})\n"})
        self.settle()
        return sha

    def say(self, number: int, text: str, author: str = WRITER) -> None:
        self.fake.comment(REPO, number, author, text)
        self.settle()

    def runs_of(self, number: int, sha: str = "") -> list[Run]:
        """Oldest first: train before evaluate."""
        return [run for run in self.runs(sha or self.head(number)) if run.pull_request == number]

    def now(self, run: Run) -> Run:
        found = self.api.wiring.db.read(lambda s: run_by_name(s, run.name))
        assert found is not None
        return found

    def state(self, run: Run) -> tuple[str, Reason | None, str]:
        found = self.now(run)
        return found.state.value, found.reason, found.message

    def waits_for(self, run: Run) -> str:
        return self.api.wiring.db.read(lambda s: jobs_of_run(s, run.id or 0))[0].waits_for

    def file(self, kind: str, guid: str, body: dict[str, object]) -> Delivery:
        """A delivery of our own, as another room files it, once it is handled."""
        wiring, now = self.api.wiring, self.api.clock.now()
        repo = self.repo()
        assert repo is not None
        filed = wiring.db.write(
            lambda s: receive_delivery(s, kind, guid, body, repo_id=repo.id, sender=WRITER, now=now)
        )
        self.settle()
        return wiring.db.read(lambda s: delivery_by_id(s, filed.id or 0))

    def approvals(self) -> list[Approval]:
        return list(self.api.wiring.db.read(lambda s: s.exec(select(Approval)).all()))

    @property
    def plain(self) -> ARunner:
        return self._runner("plain", isolated=True)

    @property
    def taker(self) -> ARunner:
        devices = [{"id": f"g{number}", "name": "A100", "memory": 1} for number in range(4)]
        return self._runner("taker", isolated=True, untrusted=True, devices=devices)

    def _runner(self, name: str, **more: object) -> ARunner:
        if name not in self._runners:
            self._runners[name] = self.api.runner(slots=20, labels=[], **more)
        return self._runners[name]

    def take(self, run: Run) -> Held:
        """The taker has accepted a job of the run, which has begun."""
        held = self.taker.take(run.name)
        held.state("running")
        return held

    def wait_for_end(self, run: Run) -> None:
        wait_for(lambda: self.now(run).state.is_final)


@contextmanager
def forks(folder: Path, text: str = WORKFLOWS) -> Iterator[Forks]:
    with joined(folder, {".dstack/workflows.yaml": text}, github_write_gap_s=0) as made:
        made.fake.set_permission(REPO, WRITER, "write")
        made.fake.set_permission(REPO, READER, "read")
        made.api.ok("PUT", f"/api/v1/repos/{REPO}/secrets/TOKEN", json={"value": "correct-horse"})
        yield Forks(made.api, made.fake, made.app, made.installation)
