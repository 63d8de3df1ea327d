"""Keeps the table of schedules as the files on the default branches have them."""

from __future__ import annotations

import logging

from sqlmodel import Session

from dstack.errors import DstackError
from dstack.language import FILES, ScheduleTrigger, read_project
from dstack.server.decide.due import next_due
from dstack.server.gateways.snapshots import read_files
from dstack.server.models import Repo, Schedule
from dstack.server.store.heads import heads_of_repo
from dstack.server.store.repos import list_repos
from dstack.server.store.schedules import schedules_of_repo
from dstack.server.wiring import Wiring

log = logging.getLogger(__name__)


def read_schedules(wiring: Wiring) -> int:
    """Read those whose default branch has moved since; how many. A file with problems leaves the schedules as they
    were: a typing mistake must not silence the nightly run."""
    read = 0
    for repo in wiring.db.read(list_repos):
        try:
            read += _read(wiring, repo)
        except (DstackError, OSError) as error:
            log.warning("schedules of %s are not read: %s", repo.full_name, error, extra={"action": "schedules"})
    return read


def _read(wiring: Wiring, repo: Repo) -> int:
    repo_id = repo.id or 0
    if not wiring.git.exists(str(repo_id)):
        return 0
    ref = f"refs/heads/{wiring.git.default_branch(str(repo_id))}"
    sha = wiring.db.read(lambda s: heads_of_repo(s, repo_id)).get(ref, "")
    if sha == repo.schedules_sha:
        return 0
    project = read_project(read_files(wiring.git, str(repo_id), sha, FILES)) if sha else None
    if project is not None and project.problems:
        wiring.db.write(lambda s: _note(s, repo_id, sha, None, wiring.clock.now()))
        return 0
    wanted = {
        (workflow.name, trigger.cron, trigger.timezone): trigger
        for workflow in (project.workflows.values() if project else ())
        for trigger in workflow.triggers.schedule
    }
    wiring.db.write(lambda s: _note(s, repo_id, sha, wanted, wiring.clock.now()))
    return 1


def _note(
    session: Session, repo_id: int, sha: str, wanted: dict[tuple[str, str, str], ScheduleTrigger] | None, now: float
) -> None:
    """New ones are due from now on; those that stand keep the time they wait for."""
    repo = session.get(Repo, repo_id)
    if repo is None:
        return
    repo.schedules_sha = sha
    session.add(repo)
    if wanted is None:
        return
    known = {(row.workflow, row.cron, row.timezone): row for row in schedules_of_repo(session, repo_id)}
    for key, row in known.items():
        if key not in wanted:
            session.delete(row)
        else:
            row.missed = wanted[key].missed
            session.add(row)
    for (workflow, cron, timezone), trigger in wanted.items():
        due_at = next_due(cron, timezone, now)
        if (workflow, cron, timezone) not in known and due_at is not None:
            session.add(
                Schedule(
                    repo_id=repo_id,
                    workflow=workflow,
                    cron=cron,
                    timezone=timezone,
                    missed=trigger.missed,
                    due_at=due_at,
                )
            )
