"""`dstack run`, and a restart: a run somebody asked for."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import DstackError, Invalid
from dstack.providers import ad_hoc
from dstack.server.decide.plan import GroupPlan, Occasion, RunPlan, plan_run, plan_runs
from dstack.server.gateways.kept import drop_work, keep_commits, work_refs
from dstack.server.handlers.registry import handles
from dstack.server.handlers.sources import with_sources
from dstack.server.handlers.start_runs import group_of, read_project_at, write_groups
from dstack.server.models import Delivery, Repo, Run
from dstack.server.models.delivery import DeliveryState
from dstack.server.services.build_wheel import wheel_requirement
from dstack.server.services.settle_delivery import settle_delivery
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring
from dstack.wire.api import RunRequest
from dstack.wire.codec import from_dict
from dstack.wire.states import Trigger


@handles("manual")
def handle_manual(wiring: Wiring, delivery: Delivery) -> None:
    """One workflow and those it needs, with the variables given."""
    repo = wiring.db.read(lambda session: repo_by_id(session, delivery.repo_id or 0))
    request = from_dict(RunRequest, delivery.body)
    occasion = Occasion(
        repo=repo.full_name,
        sha=request.sha,
        branch=request.branch,
        default_branch=wiring.git.default_branch(str(repo.id)),
        trigger=Trigger.MANUAL,
        is_working_tree=bool(request.parent),
        fresh=request.fresh,
        wheel=wheel_requirement(wiring.settings.public_url),
    )

    def plans() -> list[GroupPlan]:
        runs = _plan(wiring, repo, request, occasion)
        return [group_of(wiring, repo, delivery, occasion, runs, parent_sha=request.parent)]

    def settle(session: Session, runs: list[Run]) -> None:
        settle_delivery(session, delivery.id or 0, DeliveryState.PROCESSED, "", wiring.clock.now())

    try:
        runs = write_groups(wiring, plans, settle)
    except DstackError as error:
        message, now = f"{error.message} {error.hint}".strip(), wiring.clock.now()
        wiring.db.write(lambda session: settle_delivery(session, delivery.id or 0, DeliveryState.FAILED, message, now))
        return
    # The hidden commit of a working tree is held by nothing else; it lives as long as its runs.
    keep_commits(wiring.git, str(repo.id), {run.name: run.sha for run in runs})
    for work, sha in work_refs(wiring.git, str(repo.id)).items():
        if sha == request.sha:
            drop_work(wiring.git, str(repo.id), work)


def _plan(wiring: Wiring, repo: Repo, request: RunRequest, occasion: Occasion) -> tuple[RunPlan, ...]:
    project = read_project_at(wiring, repo, request.sha)
    if request.provider:
        workflow = ad_hoc(request.provider, request.options, tuple(project.providers))
        return (plan_run(workflow, request.variables, occasion, wiring.clock.new_name(), set(), project),)
    if request.workflow not in project.workflows:
        raise Invalid(
            f"there is no workflow {request.workflow!r} in this commit",
            f"It has: {', '.join(sorted(project.workflows)) or 'none'}.",
        )
    occasion = with_sources(wiring, repo, project, [request.workflow], occasion)
    return plan_runs(project, [request.workflow], request.variables, occasion, wiring.clock.new_name)
