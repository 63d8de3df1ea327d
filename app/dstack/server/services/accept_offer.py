"""Turns an offer into a live attempt and hands the runner its order."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from dstack.errors import Invalid, LeaseLost, NotFound
from dstack.providers import fill_attempt
from dstack.server.decide.states import Event
from dstack.server.models import Attempt, JobRow, Repo, Run, Runner
from dstack.server.store.artifacts import artifacts_of_runs
from dstack.server.store.attempts import attempt_by_id, offer_by_id
from dstack.server.store.jobs import job_by_id
from dstack.server.store.repos import repo_by_id
from dstack.server.store.runs import inputs_of_run, run_by_id, runs_by_id
from dstack.server.store.secrets import secrets_of_repo
from dstack.server.transitions.jobs import move_job
from dstack.server.vault import Vault
from dstack.wire.runner import LEASE_S, Input, Order
from dstack.wire.states import AttemptState, Reason


@dataclass(frozen=True, slots=True)
class Refused:
    """The job could not be given out and has failed; the unit must commit that."""

    message: str


def accept_offer(
    session: Session, runner: Runner, attempt_id: str, vault: Vault, now: float, lease_s: int = LEASE_S
) -> Order | Refused:
    """The runner takes the job. Repeating it answers the same order.

    Raises LeaseLost when the offer is gone, and NotFound for one made to another runner.
    """
    attempt = attempt_by_id(session, attempt_id)
    if attempt is None:
        offer = offer_by_id(session, attempt_id)
        if offer is None:
            raise LeaseLost("the offer has run out or was taken back", "Poll for another.")
        if offer.runner_id != runner.id:
            raise NotFound("there is no such attempt")
        job = job_by_id(session, offer.job_id)
        if not (run_by_id(session, job.run_id).trusted or runner.read_capacity().takes_untrusted):
            raise LeaseLost("this runner takes no untrusted work any more", "Poll for another.")
        job.attempts += 1
        attempt = Attempt(
            id=attempt_id,
            job_id=offer.job_id,
            number=job.attempts,
            runner_id=offer.runner_id,
            runner_name=runner.name,
            devices=offer.devices,
            lease_until=now + lease_s,
            accepted_at=now,
        )
        session.delete(offer)
        session.add(attempt)
        session.flush()
        move_job(session, job, Event.ACCEPT, now=now)
    elif attempt.runner_id != runner.id:
        raise NotFound("there is no such attempt")
    elif attempt.state.is_final:
        raise LeaseLost("the attempt has ended")
    return _order(session, attempt, vault, now, lease_s)


def _order(session: Session, attempt: Attempt, vault: Vault, now: float, lease_s: int) -> Order | Refused:
    job = job_by_id(session, attempt.job_id)
    run = run_by_id(session, job.run_id)
    repo = repo_by_id(session, run.repo_id)
    source = repo_by_id(session, job.checkout_repo_id) if job.checkout_repo_id else repo
    spec = fill_attempt(job.read_spec(), attempt.number)
    try:
        secrets = _secrets(session, repo, run, job, vault)
        inputs = _inputs(session, run)
    except Invalid as error:
        attempt.state, attempt.reason, attempt.message = AttemptState.FAILED, Reason.CONFIG, error.message
        attempt.finished_at = now
        session.add(attempt)
        move_job(session, job, Event.FAIL, now=now, reason=Reason.CONFIG, message=error.message)
        return Refused(error.message)
    return Order(
        attempt=attempt.id,
        number=attempt.number,
        job_id=str(job.id),
        run=run.name,
        repo=source.full_name,
        clone_path=f"/git/{source.full_name}.git",
        clone_token=f"{attempt.id}.{vault.lease(attempt.id)}",
        sha=job.checkout_sha or run.sha,
        workflow=run.workflow,
        job=spec,
        branch=run.branch,
        env=_environment(run, repo, attempt),
        secrets=secrets,
        inputs=inputs,
        devices=tuple(attempt.devices),
        trusted=run.trusted,
        lease_s=lease_s,
    )


def _environment(run: Run, repo: Repo, attempt: Attempt) -> dict[str, str]:
    return {
        "DSTACK_RUN": run.name,
        "DSTACK_WORKFLOW": run.workflow,
        "DSTACK_REPO": repo.full_name,
        "DSTACK_SHA": run.sha,
        "DSTACK_BRANCH": run.branch,
        "DSTACK_TRIGGER": run.trigger.value,
        "DSTACK_ATTEMPT": str(attempt.number),
    }


def _secrets(session: Session, repo: Repo, run: Run, job: JobRow, vault: Vault) -> dict[str, str]:
    wanted = job.read_spec().secrets
    if not wanted or not run.trusted:
        return {}
    stored = {secret.name: secret for secret in secrets_of_repo(session, repo.id or 0)}
    if missing := [name for name in wanted if name not in stored]:
        raise Invalid(f"secret {missing[0]} is not set; type `dstack secrets set {missing[0]}`")
    return {name: vault.open_secret(stored[name]) for name in wanted}


def _inputs(session: Session, run: Run) -> tuple[Input, ...]:
    wanted = inputs_of_run(session, run.id or 0)
    artifacts = artifacts_of_runs(session, [row.source_id for row in wanted])
    sources = runs_by_id(session, [row.source_id for row in wanted])
    if run.trusted and (odd := next((source for source in sources.values() if not source.trusted), None)):
        raise Invalid(f"its input {odd.workflow} ({odd.name}) ran the code of a fork")
    return tuple(
        Input(
            path=artifact.path,
            manifest=artifact.digest,
            bytes=artifact.bytes,
            files=artifact.files,
            copy=row.copy_files,
            source=f"{row.tag or sources[row.source_id].workflow} ({sources[row.source_id].name})",
        )
        for row in wanted
        for artifact in artifacts
        if artifact.run_id == row.source_id
    )
