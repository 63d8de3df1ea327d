"""Tags: list, move, remove."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Invalid, NotFound
from dstack.server.models import Repo, TagMove
from dstack.server.store.outbox import mark_note_outdated, mark_run_outdated
from dstack.server.store.runs import run_by_id
from dstack.server.store.tags import list_tags, tag_by_name
from dstack.server.store.views import view_tags
from dstack.server.transitions.tags import move_tag
from dstack.server.web.access import Audience, user_name
from dstack.server.web.api.runs import find_repo, find_run
from dstack.server.web.operation import Call, Operations
from dstack.wire.api import TagRequest, TagView

operations = Operations()
_PATH = "/api/v1/repos/{owner}/{name}/tags/{workflow}/{tag}"


@operations.add("GET", "/api/v1/tags", Audience.USER, gives=list[TagView], queries=("repo",))
async def get_tags(call: Call) -> list[TagView]:
    """Tags of a repo, or of all."""

    def query(session: Session) -> list[TagView]:
        repo = find_repo(session, call.query("repo")) if call.query("repo") else None
        return view_tags(session, list_tags(session, repo.id if repo else None))

    return await call.wiring.db.read_async(query)


@operations.add("PUT", _PATH, Audience.USER, takes=TagRequest, gives=TagView)
async def put_tag(call: Call) -> TagView:
    """Moves a tag to a succeeded run of its workflow, making it if it is new."""
    now, by = call.wiring.clock.now(), user_name(call.caller)

    def unit(session: Session) -> TagView:
        repo, run = _repo(session, call), find_run(session, call.body.run)
        if run.repo_id != repo.id or run.workflow != call.path("workflow"):
            raise Invalid(f"{run.name} is not a run of {call.path('workflow')} in {repo.full_name}")
        return view_tags(session, [move_tag(session, run, call.path("tag"), by=by, now=now)])[0]

    return await call.wiring.db.write_async(unit)


@operations.add("DELETE", _PATH, Audience.USER, status=204)
async def delete_tag(call: Call) -> None:
    """Removes a tag; the run stays."""
    now, by = call.wiring.clock.now(), user_name(call.caller)

    def unit(session: Session) -> None:
        repo = _repo(session, call)
        tag = tag_by_name(session, repo.id or 0, call.path("workflow"), call.path("tag"))
        if tag is None:
            raise NotFound(f"there is no tag {call.path('workflow')}:{call.path('tag')} in {repo.full_name}")
        session.add(
            TagMove(repo_id=tag.repo_id, workflow=tag.workflow, name=tag.name, run_id=None, moved_at=now, moved_by=by)
        )
        session.delete(tag)
        run = run_by_id(session, tag.run_id)
        mark_note_outdated(session, run, now)
        mark_run_outdated(session, run, now)

    await call.wiring.db.write_async(unit)


def _repo(session: Session, call: Call) -> Repo:
    return find_repo(session, f"{call.path('owner')}/{call.path('name')}")
