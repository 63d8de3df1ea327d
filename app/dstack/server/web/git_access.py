"""Who may use the Git remote, and what a push starts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlmodel import Session

from dstack.errors import NotAllowed, NotFound, NotSignedIn, Unavailable
from dstack.git.pushes import WORK_REFS, RefUpdate
from dstack.server.bus import delivery_topic, wait_for
from dstack.server.failpoints import reach
from dstack.server.models import Delivery
from dstack.server.models.delivery import DeliveryState
from dstack.server.models.repo import GITHUB
from dstack.server.services.add_repo import add_repo
from dstack.server.services.manage_users import find_caller
from dstack.server.store.attempts import attempt_by_id
from dstack.server.store.deliveries import delivery_by_id, groups_of_delivery
from dstack.server.store.jobs import job_by_id
from dstack.server.store.repos import repo_by_name
from dstack.server.store.runs import run_by_id, runs_of_group
from dstack.server.transitions.deliveries import receive_delivery
from dstack.server.web.access import USER_TOKENS
from dstack.server.web.disk_space import disk_problem
from dstack.server.web.git_remote import GitAccess
from dstack.server.wiring import Wiring

_ANSWER_S = 30.0
_FORGES = {GITHUB: "GitHub"}


class GitDoor:
    """Answers the two questions of the Git remote."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    async def authorize(self, token: str | None, owner: str, name: str, write: bool) -> GitAccess:
        """A user may read and push; the token of a live attempt reads its own commit. An admin's push makes the repo.

        Raises NotSignedIn, NotAllowed, NotFound or Unavailable.
        """
        wiring = self._wiring
        if token and "." in token and await wiring.db.read_async(lambda s: _names_attempt(s, token)):
            return await wiring.db.read_async(lambda s: self._attempt_access(s, token, owner, name, write))
        caller = await wiring.db.read_async(lambda s: find_caller(s, token or "", wiring.clock.now()))
        if caller.user is None or caller.kind not in USER_TOKENS:
            raise NotAllowed("this token does not open repositories")
        repo = await wiring.db.read_async(lambda s: repo_by_name(s, owner, name))
        if repo is None:
            if not (write and caller.is_admin):
                raise NotFound(f"there is no repo {owner}/{name}", "An admin's first push makes it.")
            repo = await wiring.db.write_async(lambda s: add_repo(s, f"{owner}/{name}", wiring.clock.now()))
        if not wiring.git.exists(str(repo.id)):
            await asyncio.to_thread(wiring.git.create, str(repo.id))
        if write and (problem := disk_problem(wiring)):
            raise Unavailable(problem)
        if repo.is_mirror:
            why = f"{repo.full_name} lives on {_FORGES.get(repo.forge, repo.forge)}: push there"
            return GitAccess(str(repo.id), caller.user.name, True, _is_working_tree, why)
        return GitAccess(str(repo.id), caller.user.name, may_push=True)

    def _attempt_access(self, session: Session, token: str, owner: str, name: str, write: bool) -> GitAccess:
        attempt_id, _, lease = token.partition(".")
        attempt = attempt_by_id(session, attempt_id)
        if attempt is None or attempt.state.is_final or not self._wiring.vault.is_lease(attempt_id, lease):
            raise NotSignedIn("the job this token belongs to has ended")
        repo = repo_by_name(session, owner, name)
        job = job_by_id(session, attempt.job_id)
        run = run_by_id(session, job.run_id)
        if repo is None or repo.id != (job.checkout_repo_id or run.repo_id):
            raise NotFound(f"there is no repo {owner}/{name}")
        if write:
            raise NotAllowed("a job's token only reads")
        # The address is the same for all; a fork's commit lies in a bare repository of its own.
        only = job.checkout_sha or run.sha
        return GitAccess(str(job.checkout_repo_id or run.git_id), f"attempt {attempt_id}", only=only)

    async def on_push(self, repo_id: str, user: str, updates: Sequence[RefUpdate]) -> Sequence[str]:
        """Store the delivery; then say what it started, as lines for the pusher."""
        wiring = self._wiring
        told = [u for u in updates if u.ref.startswith(("refs/heads/", "refs/tags/"))]
        if not told:
            return []
        commits = await asyncio.to_thread(self._commits, repo_id, told)
        body = {"updates": [{"ref": u.ref, "old": u.old, "new": commits[u.ref]} for u in told]}
        reach("push-before-delivery")
        guid, now = f"push:{wiring.clock.new_id()}", wiring.clock.now()
        delivery = await wiring.db.write_async(
            lambda s: receive_delivery(s, "push", guid, body, repo_id=int(repo_id), sender=user, now=now)
        )
        reach("delivery-committed")
        settled = await self._settled(delivery)
        return await wiring.db.read_async(lambda s: self._lines(s, settled))

    def _commits(self, repo_id: str, updates: Sequence[RefUpdate]) -> dict[str, str]:
        """Where each ref leads: an annotated tag is an object of its own, and what counts is the commit behind it."""
        git, found = self._wiring.git, {update.ref: update.new for update in updates}
        for update in updates:
            if update.ref.startswith("refs/tags/") and not update.is_delete:
                found[update.ref] = next(iter(git.find_commits(repo_id, [update.new])), update.new)
        return found

    async def _settled(self, delivery: Delivery) -> Delivery:
        wiring, delivery_id = self._wiring, delivery.id or 0
        with wiring.bus.listen(delivery_topic(delivery_id)) as event:
            while True:
                delivery = await wiring.db.read_async(lambda s: delivery_by_id(s, delivery_id))
                is_settled = delivery.state is not DeliveryState.RECEIVED or wiring.bus.is_closed
                if is_settled or not await wait_for(event, _ANSWER_S):
                    return delivery

    def _lines(self, session: Session, delivery: Delivery) -> list[str]:
        groups = groups_of_delivery(session, delivery.id or 0)
        runs = [run for group in groups for run in runs_of_group(session, group.id or 0)]
        width = max((len(run.workflow) for run in runs), default=0)
        lines = [
            f"{run.workflow:<{width}}  {run.name}  {run.state.value}"
            + (f": {run.message}" if run.state.is_final and run.message else "")
            for run in runs
        ]
        if runs:
            lines.append(f"follow: {self._wiring.settings.public_url}/runs/{runs[0].name}")
        prefix = "problem: " if delivery.state is DeliveryState.FAILED else ""
        return lines + [f"{prefix}{line}" for line in delivery.reason.splitlines() if line]


def _is_working_tree(ref: str) -> bool:
    """Of a repo that lives elsewhere: what `dstack run` ships may come here, and nothing else."""
    return ref.startswith(WORK_REFS)


def _names_attempt(session: Session, token: str) -> bool:
    """An admin's own choice of token may have a dot too."""
    return attempt_by_id(session, token.partition(".")[0]) is not None
