"""Answers the pages' questions from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from sqlmodel import Session

from dstack.errors import DstackError, Malformed, NotFound
from dstack.server.bus import log_topic, wait_for
from dstack.server.decide.budget import parse_budget
from dstack.server.gateways.kept import keep_commits
from dstack.server.services.approve_pull import approve_run
from dstack.server.services.restart_run import restart_run
from dstack.server.services.stop_run import stop_run
from dstack.server.store.attempts import attempt_by_id
from dstack.server.store.jobs import job_by_id
from dstack.server.store.page_queries import (
    branches_seen,
    newest_run,
    workflows_seen,
)
from dstack.server.store.repos import list_repos, repo_by_name
from dstack.server.store.runners import list_runners
from dstack.server.store.runs import RunFilter as StoreFilter
from dstack.server.store.runs import list_runs, run_by_id
from dstack.server.store.tags import list_tags
from dstack.server.store.views import view_artifact, view_runners, view_tags
from dstack.server.web.api.artifacts import find_artifact, read_manifest
from dstack.server.web.api.runs import find_repo, find_run
from dstack.server.web.page_choices import TRIGGERS
from dstack.server.web.page_ports import LogSize
from dstack.server.web.page_run import attempt_data, run_data, run_rows
from dstack.server.web.render.models import (
    ArtifactData,
    AttemptData,
    Choices,
    RunData,
    RunFilter,
    RunList,
)
from dstack.server.wiring import Wiring
from dstack.wire.api import ArtifactFile, RunnerView, TagView
from dstack.wire.states import JobState

_PAGE = 25


class StoreViews:
    """`page_ports.Views` on the store."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring, self._db = wiring, wiring.db

    def list_runs(self, viewer: str, wanted: RunFilter) -> RunList:
        if wanted.cursor and not (wanted.cursor.isascii() and wanted.cursor.isdecimal() and len(wanted.cursor) < 19):
            raise Malformed("This page does not exist.", "Go back to the list of runs.")
        if wanted.state and wanted.state != "active" and wanted.state not in list(JobState):
            raise Malformed("There is no such state.", "Go back to the list of runs.")
        return self._db.read(lambda s: self._list(s, wanted))

    def _list(self, session: Session, wanted: RunFilter) -> RunList:
        owner, _, name = wanted.repo.partition("/")
        repo = repo_by_name(session, owner, name) if wanted.repo else None
        if wanted.repo and repo is None:
            return RunList([])
        active = wanted.state == "active"
        want = StoreFilter(
            repo_id=repo.id if repo else None,
            workflow=wanted.workflow,
            branch=wanted.branch,
            state="" if active else wanted.state,
            active=active,
            trigger=wanted.trigger,
            sha=wanted.sha,
            pull_request=int(wanted.pr) if wanted.pr else None,
            before=int(wanted.cursor) if wanted.cursor else None,
        )
        found = list_runs(session, want, _PAGE + 1)
        more = str(found[_PAGE - 1].id) if len(found) > _PAGE else None
        return RunList(run_rows(session, found[:_PAGE], self._wiring.settings.github_url), more)

    def choices(self, viewer: str) -> Choices:
        return self._db.read(
            lambda s: Choices([r.full_name for r in list_repos(s)], workflows_seen(s), branches_seen(s), list(TRIGGERS))
        )

    def get_run(self, viewer: str, name: str) -> RunData | None:
        with suppress(NotFound):
            return self._db.read(lambda s: run_data(s, find_run(s, name), self._wiring.settings.github_url))
        return None

    def get_attempt(self, viewer: str, run: str, attempt_id: str) -> AttemptData | None:
        def query(session: Session) -> AttemptData | None:
            attempt = attempt_by_id(session, attempt_id)
            if attempt is None:
                return None
            job = job_by_id(session, attempt.job_id)
            return attempt_data(attempt, job.name) if run_by_id(session, job.run_id).name == run else None

        return self._db.read(query)

    def list_tags(self, viewer: str, repo: str) -> list[TagView]:
        def query(session: Session) -> list[TagView]:
            repo_id = find_repo(session, repo).id if repo else None
            return view_tags(session, list_tags(session, repo_id))

        with suppress(NotFound):
            return self._db.read(query)
        return []

    def list_runners(self, viewer: str) -> list[RunnerView]:
        now = self._wiring.clock.now()
        return self._db.read(lambda s: view_runners(s, list_runners(s), now))

    def get_artifact(self, viewer: str, artifact_id: str) -> ArtifactData | None:
        try:
            manifest = read_manifest(self._wiring, artifact_id)
        except NotFound:
            return None
        files = [ArtifactFile(f.path, f.size, f.digest, f.mode, f.target) for f in manifest.files]

        def query(session: Session) -> ArtifactData:
            artifact = find_artifact(session, artifact_id)
            run = run_by_id(session, artifact.run_id)
            return ArtifactData(view_artifact(artifact), run.name, files, artifact.skipped)

        return self._db.read(query)

    def open_file(self, viewer: str, artifact_id: str, path: str) -> tuple[int, Iterator[bytes]] | None:
        try:
            manifest = read_manifest(self._wiring, artifact_id)
        except NotFound:
            return None
        entry = next((f for f in manifest.files if f.path == path and f.target is None), None)
        return None if entry is None else (entry.size, self._wiring.objects.read(entry.digest))

    def read_blob(self, digest: str) -> Iterator[bytes]:
        return self._wiring.objects.read(digest)

    def badge_state(self, viewer: str | None, repo: str, workflow: str, branch: str) -> str:
        if viewer is None:
            return ""

        def query(session: Session) -> str:
            owner, _, name = repo.partition("/")
            row = repo_by_name(session, owner, name)
            if row is None:
                return ""
            where = branch or self._wiring.git.default_branch(str(row.id))
            run = newest_run(session, row.id or 0, workflow, where)
            return run.state.value if run else ""

        try:
            return self._db.read(query)
        except DstackError:
            return ""


class StoreActions:
    """`page_ports.Actions`."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def stop_run(self, viewer: str, name: str, *, group: bool) -> None:
        now = self._wiring.clock.now()
        self._wiring.db.write(lambda s: stop_run(s, find_run(s, name), group=group, by=viewer, now=now))

    def approve_run(self, viewer: str, name: str, *, budget: str) -> None:
        now, gpu_seconds = self._wiring.clock.now(), parse_budget(budget) if budget else None
        self._wiring.db.write(lambda s: approve_run(s, find_run(s, name), by=viewer, gpu_seconds=gpu_seconds, now=now))

    def restart_run(self, viewer: str, name: str) -> str:
        wiring = self._wiring
        run = wiring.db.write(lambda s: restart_run(s, find_run(s, name), by=viewer, clock=wiring.clock))
        keep_commits(wiring.git, run.git_id, {run.name: run.sha})
        return run.name


class StoreLogs:
    """`page_ports.Logs`."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def size(self, attempt_id: str) -> LogSize:
        # The end is read before the size: bytes that came in between are not missed.
        attempt = self._wiring.db.read(lambda s: attempt_by_id(s, attempt_id))
        ended = attempt is None or attempt.state.is_final
        return LogSize(self._wiring.logs.size(attempt_id), ended)

    def read(self, attempt_id: str, start: int, end: int) -> bytes:
        return b"".join(self._wiring.logs.read(attempt_id, start, end))

    async def wait(self, attempt_id: str, offset: int, timeout_s: float) -> LogSize | None:
        deadline = asyncio.get_running_loop().time() + timeout_s
        with self._wiring.bus.listen(log_topic(attempt_id)) as news:
            while not self._wiring.bus.is_closed:
                size = await asyncio.to_thread(self.size, attempt_id)
                left = deadline - asyncio.get_running_loop().time()
                if size.bytes > offset or size.ended or left <= 0:
                    return size
                await wait_for(news, left)
        return None
