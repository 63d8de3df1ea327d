"""A wired server without its doors, whose one repository lies on a fake GitHub, and time that moves when told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_github import FakeGitHub
from ready_data import ready
from server_clock import FakeClock
from sqlmodel import Session, select

from dstack.server.bootstrap import start
from dstack.server.decide.plan import GroupPlan, RunPlan
from dstack.server.decide.states import Event
from dstack.server.models import Attempt, JobRow, OutboxMark, Repo, Run, Runner
from dstack.server.models.repo import GITHUB
from dstack.server.outbox_lane import SENDERS, Lane
from dstack.server.outbox_sending import Sender
from dstack.server.services.create_group import create_group
from dstack.server.services.report_attempt import finish_attempt, record_metrics, report_state
from dstack.server.settings import Settings
from dstack.server.store.attempts import live_attempt_of_job
from dstack.server.store.jobs import jobs_of_run
from dstack.server.store.outbox import mark_outdated
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.jobs import move_job
from dstack.server.wiring import Wiring
from dstack.wire.job import Command, Job
from dstack.wire.runner import Finish, MetricPoint, MetricsReport, StateReport
from dstack.wire.states import AttemptState, Reason, Trigger

REPO = "acme/vision"
JOB = Job((Command("true"),))
URL = "http://dstack.example"


class Scene:
    """`sha` is a commit on GitHub. `lane` is that of its installation; `idle` drives it until nothing is due."""

    def __init__(self, wiring: Wiring, clock: FakeClock, github: FakeGitHub, installation: int) -> None:
        self.wiring, self.clock, self.github, self.installation = wiring, clock, github, installation
        self.sha = github.commit(REPO, "main", {"train.py": "print(1)\n"}, "Train")
        forge_id = str(github.repo(REPO).id)
        row = Repo(
            owner="acme", name="vision", forge=GITHUB, forge_id=forge_id, installation_id=installation,
            created_at=clock.now(),
        )  # fmt: skip
        wiring.db.write(lambda s: s.add(row))
        now = clock.now()
        runner = Runner(name="runner-1", capacity={}, registered_at=now, last_seen_at=now)
        wiring.db.write(lambda s: s.add(runner))
        self.slept: list[float] = []
        self.use(SENDERS)

    # Runs

    def run(self, workflow: str = "train", sha: str = "", *, trigger: Trigger = Trigger.PUSH, **more: Any) -> str:
        return self.runs({workflow: more}, sha, trigger=trigger)[workflow]

    def runs(
        self, plans: Mapping[str, Mapping[str, Any]], sha: str = "", *, trigger: Trigger = Trigger.PUSH, **group: Any
    ) -> dict[str, str]:
        """Workflow -> name of its run; all made at once."""
        made = tuple(
            RunPlan(
                self.clock.new_name(), workflow, (JOB,), **({"is_clean": True, "headline": "accuracy"} | dict(more))
            )
            for workflow, more in plans.items()
        )
        plan = GroupPlan(self.clock.new_name(), 1, sha or self.sha, trigger, made, branch="main", **group)
        return {r.workflow: r.name for r in self.wiring.db.write(lambda s: create_group(s, plan, self.clock.now()))}

    def begin(self, run: str) -> None:
        """A runner takes it, and its commands run."""

        def unit(session: Session) -> None:
            job = self._job(session, run)
            job.attempts += 1
            attempt = Attempt(
                id=f"{job.id:020x}", job_id=job.id or 0, number=job.attempts, runner_id=1, runner_name="runner-1",
                lease_until=self.clock.now() + 60, accepted_at=self.clock.now(),
            )  # fmt: skip
            session.add(attempt)
            session.flush()
            move_job(session, job, Event.OFFER, now=self.clock.now())
            move_job(session, job, Event.ACCEPT, now=self.clock.now())
            report_state(session, attempt, StateReport(AttemptState.RUNNING), self.clock.now())

        self.wiring.db.write(unit)

    def metrics(self, run: str, offset: int, value: float) -> None:
        self.all_metrics([run], offset, value)

    def all_metrics(self, runs: Sequence[str], offset: int, value: float) -> None:
        """A point of each of them."""
        report = MetricsReport(offset, (MetricPoint("accuracy", value, offset),))

        def unit(session: Session) -> None:
            for run in runs:
                record_metrics(session, self._attempt(session, run), report, self.clock.now())

        self.wiring.db.write(unit)

    def end(self, run: str, **more: Any) -> None:
        given = {"state": AttemptState.SUCCEEDED, "exit_code": 0, "metrics": {"accuracy": 0.934}} | more
        finish = Finish(**given)
        self.wiring.db.write(lambda s: finish_attempt(s, self._attempt(s, run), finish, self.clock.now()))

    def fail(self, run: str, message: str = "train.py: exit code 1") -> None:
        self.end(run, state=AttemptState.FAILED, reason=Reason.EXIT_CODE, exit_code=1, message=message, metrics={})

    def attempt_of(self, run: str) -> str:
        return self.wiring.db.read(lambda s: self._attempt(s, run)).id

    def change(self, run: str, **columns: Any) -> None:
        """What services of other rooms write beside a run."""

        def unit(session: Session) -> None:
            row = run_by_name(session, run)
            assert row is not None
            for name, value in columns.items():
                setattr(row, name, value)
            session.add(row)

        self.wiring.db.write(unit)

    def row(self, run: str) -> Run:
        found = self.wiring.db.read(lambda s: run_by_name(s, run))
        assert found is not None
        return found

    def _job(self, session: Session, run: str) -> JobRow:
        row = run_by_name(session, run)
        assert row is not None
        return jobs_of_run(session, row.id or 0)[0]

    def _attempt(self, session: Session, run: str) -> Attempt:
        attempt = live_attempt_of_job(session, self._job(session, run).id or 0)
        assert attempt is not None
        return attempt

    # The outbox

    def mark(self, kind: str, target: str) -> None:
        self.wiring.db.write(lambda s: mark_outdated(s, kind, target, self.clock.now()))

    def marks(self, later: bool = False) -> list[tuple[str, str]]:
        """(kind, target) of what is due; with `later` of everything."""

        def query(session: Session) -> list[tuple[str, str]]:
            rows = session.exec(select(OutboxMark)).all()
            return [(m.kind, m.target) for m in rows if later or m.not_before <= self.clock.now()]

        return sorted((k, t) for k, t in self.wiring.db.read(query) if k in self.senders)

    def idle(self, most_s: float = 3600) -> float:
        """Step the lane until nothing is due, letting the time it asks for pass; the seconds that took."""
        began = self.clock.now()
        while (wait := self.lane.step()) is not None:
            assert self.clock.now() - began <= most_s, f"still busy with {self.marks()}"
            self.slept.append(wait)
            self.clock.pass_time(wait)
        return self.clock.now() - began

    def pass_time(self, seconds: float, every_s: float = 1.0) -> None:
        """Let time pass, the lane at work meanwhile."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.lane.step()
            self.clock.pass_time(min(every_s, end - self.clock.now()))
        self.lane.step()

    def use(self, senders: Mapping[str, Sender]) -> None:
        """A lane with these senders alone."""
        self.senders = senders
        self.lane = Lane(self.wiring, self.installation, senders)

    def statuses(self, sha: str = "") -> dict[str, tuple[str, str]]:
        """Context -> state and text, as the forge shows them."""
        found = self.github.statuses(REPO, sha or self.sha)
        return {context: (status.state, status.description or "") for context, status in found.items()}


@contextmanager
def play(
    folder: Path, clock: FakeClock, permissions: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Scene]:
    """A scene of its own; at its end GitHub must have had nothing to complain about."""
    with FakeGitHub(folder / "github") as github:
        app = github.make_app(permissions=permissions)
        github.create_repo(REPO, files={"README.md": "vision"})
        installation = github.install(app, "acme", [REPO])
        given: dict[str, Any] = {
            "data": ready(folder / "data"), "admin_token": "admin-token-for-tests", "url": URL, "github_app_id": app.id,
            "github_private_key": app.pem, "github_webhook_secret": app.webhook_secret,
            "github_api_url": github.api_url, "github_url": github.url,
        }  # fmt: skip
        with start(Settings(**(given | settings)), clock) as started:
            yield Scene(started.wiring, clock, github, installation)
        assert not github.violations
