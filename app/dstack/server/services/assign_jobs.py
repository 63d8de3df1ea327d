"""Offers queued jobs to runners, and takes back offers that nobody accepted."""

from __future__ import annotations

from sqlmodel import Session

from dstack.server.bus import runner_topic
from dstack.server.clock import Clock
from dstack.server.decide.assign import Holding, Machine, Placement, QueuedJob, assign
from dstack.server.decide.states import Event
from dstack.server.models import Attempt, Offer
from dstack.server.store.attempts import all_offers, live_attempts, offers_expired
from dstack.server.store.database import wake
from dstack.server.store.jobs import Queued, job_by_id, jobs_queued
from dstack.server.store.runners import list_runners, runner_by_id
from dstack.server.store.runs import run_by_id
from dstack.server.transitions.jobs import move_job
from dstack.wire.codec import from_dict
from dstack.wire.job import Job
from dstack.wire.runner import OFFER_S


def assign_jobs(session: Session, clock: Clock) -> int:
    """One pass over the whole queue. Answers how many offers were made."""
    now = clock.now()
    for stale in offers_expired(session, now):
        job = job_by_id(session, stale.job_id)
        _doubt(session, stale, now)
        session.delete(stale)
        session.flush()
        move_job(session, job, Event.WITHDRAW, now=now)
    queued = jobs_queued(session, now)
    if not queued:
        return 0
    jobs = {job.id: job for job in queued}
    offers = 0
    for decision in assign([_queued(session, job) for job in queued], _machines(session, now)):
        if isinstance(decision, Placement):
            _offer(session, decision, clock, now)
            offers += 1
        else:
            _say_why(session, jobs[decision.job], decision.why)
    return offers


def _say_why(session: Session, queued: Queued, why: str) -> None:
    if queued.waits_for != why:
        job = job_by_id(session, queued.id)
        job.waits_for = why
        session.add(job)


def _queued(session: Session, job: Queued) -> QueuedJob:
    needs = from_dict(Job, job.spec).resources
    without = _without_gpus(session, job, needs.gpu.count) if needs.gpu.count else ""
    return QueuedJob(job.id, needs, without, job.trusted)


def _without_gpus(session: Session, job: Queued, count: int) -> str:
    """The command that runs the workflow without GPUs, where one of its variables says how many."""
    run = run_by_id(session, job.run_id)
    names = [name for name, value in run.variables.items() if "gpu" in name.lower() and value == str(count)]
    return f"dstack run {run.workflow} --{names[0]} 0" if len(names) == 1 else ""


def _doubt(session: Session, stale: Offer, now: float) -> None:
    """A runner that has not even asked again since an offer is dead, so far as we know."""
    runner = runner_by_id(session, stale.runner_id)
    if runner is not None and runner.last_seen_at < stale.expires_at - OFFER_S:
        runner.doubt(now)
        session.add(runner)


def _offer(session: Session, placement: Placement, clock: Clock, now: float) -> None:
    session.add(
        Offer(
            id=clock.new_id(),
            job_id=placement.job,
            runner_id=placement.runner,
            devices=list(placement.devices),
            expires_at=now + OFFER_S,
        )
    )
    move_job(session, job_by_id(session, placement.job), Event.OFFER, now=now)
    wake(session, runner_topic(placement.runner))


def _machines(session: Session, now: float) -> list[Machine]:
    machines = {
        runner.id or 0: Machine(
            runner.id or 0, runner.name, runner.read_capacity(), runner.is_online(now), runner.draining
        )
        for runner in list_runners(session)
    }
    held_now: list[Attempt | Offer] = [*live_attempts(session), *all_offers(session)]
    for held in held_now:
        if held.runner_id in machines:
            needs = job_by_id(session, held.job_id).read_spec().resources
            machines[held.runner_id].holdings.append(Holding(tuple(held.devices), needs))
    return list(machines.values())


def explain_full_disk(session: Session, problem: str, now: float) -> None:
    """No offers are made; every queued job says why."""
    for job in jobs_queued(session, now):
        _say_why(session, job, problem)
