"""Runs, attempts and leases under any order of events: a model-based test on the real database with a held clock."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from ready_data import ready
from server_clock import FakeClock
from sqlmodel import Session, select

from dstack.errors import Conflict, DstackError, LeaseLost, NotFound
from dstack.server.bootstrap import start
from dstack.server.decide.plan import GroupPlan, NeedInput, RunPlan
from dstack.server.decide.states import fold
from dstack.server.models import Attempt, Group, JobRow, Offer, Repo, Run, Runner
from dstack.server.services.accept_offer import accept_offer
from dstack.server.services.assign_jobs import assign_jobs
from dstack.server.services.create_group import create_group
from dstack.server.services.hold_lease import expire_leases, held_attempt, renew_leases
from dstack.server.services.register_runner import register_runner
from dstack.server.services.report_attempt import finish_attempt, report_state
from dstack.server.services.restart_run import restart_run
from dstack.server.services.stop_run import stop_run
from dstack.server.settings import Settings
from dstack.server.store.runners import runner_by_name
from dstack.server.store.runs import run_by_name
from dstack.wire.job import Command, Gpu, Job, Resources, Retry
from dstack.wire.runner import LEASE_S, Capacity, Device, Finish, Registration, StateReport
from dstack.wire.states import FINAL_STATES, AttemptState, JobState, Reason, Trigger

RUNNERS = {
    "small": Capacity(cpu=2, memory=8 << 30, slots=2),
    "gpus": Capacity(cpu=8, memory=32 << 30, slots=3, devices=tuple(Device(f"g{i}", "A100", 40 << 30) for i in (0, 1))),
}


class RunMachine(RuleBasedStateMachine):
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.clock = FakeClock()
        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        data = Settings(data=ready(Path(folder)), admin_token="admin-token-for-tests")
        self.wiring = self.stack.enter_context(start(data, self.clock)).wiring
        self.db, self.vault = self.wiring.db, self.wiring.vault
        self.ended: dict[int, tuple[JobState, Reason | None]] = {}

    def teardown(self) -> None:
        self.stack.close()

    @initialize()
    def begin(self) -> None:
        now = self.clock.now()
        self.db.write(lambda s: s.add(Repo(owner="o", name="n", created_at=now)))
        for name, capacity in RUNNERS.items():
            self.db.write(lambda s, n=name, c=capacity: register_runner(s, Registration(n, c), self.clock))

    @rule(
        target=runs,
        gpu=st.sampled_from([0, 0, 1, 2, 3]),
        chain=st.integers(1, 3),
        limit=st.integers(0, 2),
        tag=st.sampled_from([None, "latest"]),
        group=st.sampled_from([None, "deploy"]),
        cancel=st.booleans(),
    )
    def push(self, gpu: int, chain: int, limit: int, tag: str | None, group: str | None, cancel: bool):  # type: ignore[no-untyped-def]
        job = Job((Command("true"),), resources=Resources(Gpu(gpu)), retry=Retry(limit=limit))
        plans = tuple(
            RunPlan(
                self._name(),
                f"w{number}",
                (job,),
                inputs=(NeedInput(f"w{number - 1}"),) if number else (),
                auto_tag=tag,
                concurrency_group=group if chain == 1 else None,
                cancel_running=cancel,
            )
            for number in range(chain)
        )
        plan = GroupPlan(self._name(), 1, "a" * 40, Trigger.PUSH, plans)
        made = self.db.write(lambda s: create_group(s, plan, self.clock.now()))
        return multiple(*(run.name for run in made))

    @rule()
    def assign(self) -> None:
        self.db.write(lambda s: assign_jobs(s, self.clock))

    @rule(data=st.data())
    def accept(self, data: st.DataObject) -> None:
        offers = self.db.read(lambda s: list(s.exec(select(Offer)).all()))
        if not offers:
            return
        offer = data.draw(st.sampled_from(sorted(offers, key=lambda o: o.id)))
        try:
            self.db.write(
                lambda s: accept_offer(s, s.get(Runner, offer.runner_id), offer.id, self.vault, self.clock.now())
            )
        except LeaseLost:
            pass

    @rule(data=st.data(), state=st.sampled_from([AttemptState.RUNNING, AttemptState.SAVING]))
    def report(self, data: st.DataObject, state: AttemptState) -> None:
        self._as_holder(data, lambda s, a: report_state(s, a, StateReport(state), self.clock.now()))

    @rule(
        data=st.data(),
        end=st.sampled_from(
            [
                Finish(AttemptState.SUCCEEDED, exit_code=0, metrics={"accuracy": 0.5}),
                Finish(AttemptState.FAILED, Reason.EXIT_CODE, exit_code=3),
                Finish(AttemptState.FAILED, Reason.CHECKOUT, machine_fault=True),
                Finish(AttemptState.STOPPED, Reason.CANCELED_BY),
                Finish(AttemptState.PREEMPTED, Reason.PREEMPTED),
            ]
        ),
    )
    def finish(self, data: st.DataObject, end: Finish) -> None:
        self._as_holder(data, lambda s, a: finish_attempt(s, a, end, self.clock.now()))

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        attempt = self._draw_attempt(data)
        if attempt is None:
            return
        leases = {attempt.id: self.vault.lease(attempt.id)}

        def unit(session: Session) -> bool:
            runner = session.get(Runner, attempt.runner_id)
            assert runner is not None
            return bool(renew_leases(session, runner, leases, self.vault, self.clock.now()).held)

        assert self.db.write(unit) is not attempt.state.is_final

    @rule(seconds=st.sampled_from([1, 10, 20, LEASE_S + 1]))
    def pass_time(self, seconds: int) -> None:
        self.clock.pass_time(seconds)
        self.db.write(lambda s: expire_leases(s, self.clock.now()))
        for name in RUNNERS:  # they poll on
            self.db.write(lambda s, n=name: self._seen(s, n))

    @rule(name=runs, group=st.booleans())
    def stop(self, name: str, group: bool) -> None:
        try:
            self.db.write(lambda s: stop_run(s, run_by_name(s, name), group=group, by="me", now=self.clock.now()))
        except Conflict:
            assert self.db.read(lambda s: run_by_name(s, name)).state.is_final

    @rule(target=runs, name=runs)
    def restart(self, name: str):  # type: ignore[no-untyped-def]
        try:
            return self.db.write(lambda s: restart_run(s, run_by_name(s, name), by="me", clock=self.clock)).name
        except Conflict:
            return multiple()

    @rule(data=st.data())
    def write_with_a_stale_lease(self, data: st.DataObject) -> None:
        """A zombie's report is refused and changes nothing."""
        attempt = self._draw_attempt(data)
        if attempt is None or not attempt.state.is_final:
            return
        runner = self.db.read(lambda s: s.get(Runner, attempt.runner_id))
        lease = self.vault.lease(attempt.id)
        for token, expected in ((lease, LeaseLost), ("wrong", LeaseLost)):
            try:
                self.db.write(lambda s, t=token: held_attempt(s, runner, attempt.id, t, self.vault))
            except expected:
                continue
            raise AssertionError("a stale lease was taken")

    @rule(data=st.data())
    def write_as_another_runner(self, data: st.DataObject) -> None:
        attempt = self._draw_attempt(data)
        if attempt is None:
            return
        other = next(n for n in RUNNERS if n != attempt.runner_name)
        runner = self.db.read(lambda s: runner_by_name(s, other))
        try:
            self.db.write(lambda s: held_attempt(s, runner, attempt.id, self.vault.lease(attempt.id), self.vault))
        except NotFound:
            return
        raise AssertionError("another runner's attempt was writable")

    @invariant()
    def ends_are_for_ever(self) -> None:
        for job in self.db.read(lambda s: s.exec(select(JobRow)).all()):
            if job.id in self.ended:
                assert (job.state, job.reason) == self.ended[job.id]
            elif job.state in FINAL_STATES:
                self.ended[job.id or 0] = (job.state, job.reason)

    @invariant()
    def parents_are_the_fold_of_their_children(self) -> None:
        def check(session: Session) -> None:
            jobs = session.exec(select(JobRow)).all()
            runs = session.exec(select(Run)).all()
            for run in runs:
                assert run.state is fold(j.state for j in jobs if j.run_id == run.id), run.name
                assert (run.finished_at is not None) == run.state.is_final
            for group in session.exec(select(Group)).all():
                assert group.state is fold(r.state for r in runs if r.group_id == group.id)

        self.db.read(check)

    @invariant()
    def a_job_has_at_most_one_live_attempt_or_offer(self) -> None:
        def check(session: Session) -> None:
            jobs = session.exec(select(JobRow)).all()
            live = [a for a in session.exec(select(Attempt)).all() if not a.state.is_final]
            held = Counter([a.job_id for a in live] + [o.job_id for o in session.exec(select(Offer)).all()])
            assert all(count == 1 for count in held.values())
            for job in jobs:
                assert (held[job.id or 0] == 1) == (job.state is JobState.OFFERED or job.state.is_live)

        self.db.read(check)

    @invariant()
    def no_gpu_or_slot_is_given_twice(self) -> None:
        def check(session: Session) -> None:
            live = [a for a in session.exec(select(Attempt)).all() if not a.state.is_final]
            held = [*live, *session.exec(select(Offer)).all()]
            for runner in session.exec(select(Runner)).all():
                mine = [h for h in held if h.runner_id == runner.id]
                devices = [d for h in mine for d in h.devices]
                assert len(devices) == len(set(devices))
                assert len(mine) <= runner.read_capacity().slots

        self.db.read(check)

    @invariant()
    def nothing_waits_without_a_reason(self) -> None:
        """A job waits only while a run it needs, or an older one of its concurrency group, is open."""

        def check(session: Session) -> None:
            from dstack.server.transitions.runs import is_ready

            for job in session.exec(select(JobRow).where(JobRow.state == JobState.WAITING)).all():
                run = session.get(Run, job.run_id)
                assert run is not None
                assert not is_ready(session, run), f"{run.name} is ready and still waits"

        self.db.read(check)

    def _seen(self, session: Session, name: str) -> None:
        runner = runner_by_name(session, name)
        assert runner is not None
        runner.last_seen_at = self.clock.now()
        session.add(runner)

    def _name(self) -> str:
        return f"run-{self.clock.new_id()[-6:]}"

    def _draw_attempt(self, data: st.DataObject) -> Attempt | None:
        attempts = self.db.read(lambda s: list(s.exec(select(Attempt).order_by(Attempt.id)).all()))  # type: ignore[arg-type]
        return data.draw(st.sampled_from(attempts)) if attempts else None

    def _as_holder(self, data: st.DataObject, act) -> None:  # type: ignore[no-untyped-def]
        attempt = self._draw_attempt(data)
        if attempt is None:
            return

        def unit(session: Session) -> None:
            runner = session.get(Runner, attempt.runner_id)
            assert runner is not None
            act(session, held_attempt(session, runner, attempt.id, self.vault.lease(attempt.id), self.vault))

        try:
            self.db.write(unit)
        except DstackError as error:
            assert attempt.state.is_final or error.code == "invalid", error


RunMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestRunMachine = RunMachine.TestCase
