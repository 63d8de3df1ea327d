"""Runs on the commits of a real repository, ended as a test says, and judged as the server's worker judges them."""

from __future__ import annotations

from collections.abc import Mapping

from server_clock import FakeClock
from sqlmodel import Session, select

from dstack.git.run import git
from dstack.server.decide.plan import GroupPlan, RunPlan
from dstack.server.decide.states import Event
from dstack.server.gateways.history import History
from dstack.server.models import JobRow, OutboxMark, PullRequest, Repo, Run
from dstack.server.models.repo import GITHUB
from dstack.server.services.create_group import create_group
from dstack.server.services.judge_runs import judge_runs
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import mark_unjudged
from dstack.server.store.runs import run_by_name
from dstack.server.store.tags import list_tags
from dstack.server.transitions.jobs import move_job
from dstack.server.wiring import Wiring
from dstack.wire.job import Command, Job
from dstack.wire.states import JobState, Trigger

GATE = "accuracy >= base - 0.01"
_WHO = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.com", "GIT_AUTHOR_DATE": "1800000000 +0000",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.com", "GIT_COMMITTER_DATE": "1800000000 +0000",
}  # fmt: skip


class Scene:
    """One repo, `o/n`, with an empty branch main until something is committed."""

    def __init__(self, wiring: Wiring, clock: FakeClock) -> None:
        self.wiring, self.clock, self.db = wiring, clock, wiring.db
        self.history = History(wiring.git)
        self.db.write(lambda s: s.add(Repo(owner="o", name="n", created_at=clock.now())))
        wiring.git.create("1")

    # Git

    def commit(self, branch: str = "main", *parents: str, objects: str = "1") -> str:
        """A commit on a branch, on top of what is there unless other parents are named."""
        folder = self.wiring.git.path(objects)
        env = {**_WHO, "GIT_DIR": str(folder)}
        if not parents and (head := self.wiring.git.heads(objects).get(f"refs/heads/{branch}")):
            parents = (head,)
        tree = git(["mktree"], cwd=folder, env=env, stdin=b"").decode().strip() if parents else self._tree(objects)
        words = [word for parent in parents for word in ("-p", parent)]
        self.clock.pass_time(1)
        said = f"at {self.clock.now()}".encode()
        sha = git(["commit-tree", tree, *words], cwd=folder, env=env, stdin=said).decode().strip()
        git(["update-ref", f"refs/heads/{branch}", sha], cwd=folder, env=env)
        return sha

    def _tree(self, objects: str) -> str:
        folder = self.wiring.git.path(objects)
        return git(["write-tree"], cwd=folder, env={"GIT_DIR": str(folder)}).decode().strip()

    # Runs

    def run(
        self,
        sha: str,
        trigger: Trigger = Trigger.PUSH,
        *,
        gate: str | None = GATE,
        clean: bool = True,
        workflow: str = "train",
        auto_tag: str | None = None,
        **more: object,
    ) -> str:
        """The name of a queued run."""
        name = self.clock.new_name()
        plan = RunPlan(name, workflow, (Job((Command("true"),)),), gate=gate, is_clean=clean, auto_tag=auto_tag)
        group = GroupPlan(self.clock.new_name(), 1, sha, trigger, (plan,), **more)  # type: ignore[arg-type]
        self.db.write(lambda s: create_group(s, group, self.clock.now()))
        return name

    def pull(self, sha: str, *, gate: str | None = GATE, base: str = "main", **more: object) -> str:
        """A run of pull request 7."""
        return self.run(sha, Trigger.PULL_REQUEST, gate=gate, pull_request=7, base_branch=base, **more)  # type: ignore[arg-type]

    def pull_row(self, base_sha: str) -> None:
        """What the forge said of pull request 7."""
        row = PullRequest(
            repo_id=1, number=7, head_sha="0" * 40, base_branch="main", base_sha=base_sha, head_at=0, updated_at=0
        )
        self.db.write(lambda s: s.add(row))

    def end(self, name: str, state: JobState = JobState.SUCCEEDED, **metrics: float) -> str:
        """End a run with these metrics; nothing is judged yet."""

        def unit(session: Session) -> None:
            run = run_by_name(session, name)
            assert run is not None
            run.metrics = dict(metrics)
            (job,) = jobs_of_run(session, run.id or 0)
            job.state = JobState.SAVING
            event = {JobState.SUCCEEDED: Event.SUCCEED, JobState.FAILED: Event.FAIL, JobState.STOPPED: Event.STOP}
            move_job(session, session.get_one(JobRow, job.id), event[state], now=self.clock.now())

        self.clock.pass_time(1)
        self.db.write(unit)
        return name

    def done(self, sha: str, accuracy: float, **more: object) -> str:
        """A push run that has succeeded and is judged."""
        name = self.end(self.run(sha, **more), accuracy=accuracy)  # type: ignore[arg-type]
        self.judge()
        return name

    def judge(self) -> int:
        return judge_runs(self.wiring, self.history)

    def mark(self, name: str) -> None:
        """What making a run on a mirror does."""
        run_id = self.row(name).id
        self.db.write(lambda s: mark_unjudged(s, s.get_one(Run, run_id), self.clock.now()))

    def adopt(self, name: str, source: str) -> str:
        """Let a run take over the work of another."""
        run_id, source_id = self.row(name).id, self.row(source).id

        def unit(session: Session) -> None:
            session.get_one(Run, run_id).adopted_id = source_id

        self.db.write(unit)
        return name

    def make_mirror(self) -> None:
        def unit(session: Session) -> None:
            repo = session.get_one(Repo, 1)
            repo.forge, repo.forge_id, repo.installation_id = GITHUB, "1000", 5

        self.db.write(unit)

    # What came of it

    def row(self, name: str) -> Run:
        found = self.db.read(lambda s: run_by_name(s, name))
        assert found is not None
        return found

    def base(self, name: str) -> str | None:
        run = self.row(name)
        return self.db.read(lambda s: s.get_one(Run, run.base_run_id).name) if run.base_run_id else None

    def said(self, name: str) -> tuple[str | None, str]:
        run = self.row(name)
        return run.verdict, run.verdict_why

    def tags(self) -> Mapping[str, str]:
        def query(session: Session) -> dict[str, str]:
            return {tag.label: session.get_one(Run, tag.run_id).name for tag in list_tags(session)}

        return self.db.read(query)

    def marks(self, kind: str) -> list[str]:
        return self.db.read(lambda s: list(s.exec(select(OutboxMark.target).where(OutboxMark.kind == kind)).all()))
