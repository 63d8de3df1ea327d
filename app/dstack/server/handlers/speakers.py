"""Finds for workflows that a push did not start the commit that speaks for the pushed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dstack.errors import ConfigProblems, NotFound
from dstack.language import FILES, Project
from dstack.server.decide.base import LINE
from dstack.server.decide.carry_over import reads_the_same, speaker_of
from dstack.server.gateways.history import History
from dstack.server.handlers.start_runs import read_project_at
from dstack.server.models import Repo
from dstack.server.store.carried import Spoken, spoken_at
from dstack.server.wiring import Wiring


def find_speakers(
    wiring: Wiring, repo: Repo, project: Project, workflows: Sequence[str], before: str, after: str
) -> dict[str, str]:
    """Workflow -> the commit whose run says how it stands at `after`, for those of `workflows` that read the same
    there. `before` is what was pushed to, forced or not: what has changed was told from it."""
    if not workflows:
        return {}
    repo_id = repo.id or 0
    line = History(wiring.git).first_parents(str(repo_id), before, LINE)
    spoken = wiring.db.read(lambda s: spoken_at(s, repo_id, workflows, line))
    found = {name: _speaker(line, spoken, name) for name in workflows}
    there = {sha: _Then(wiring, repo, project, sha, after) for sha in set(found.values()) if sha}
    return {name: sha for name, sha in found.items() if sha and there[sha].reads_the_same(name)}


def _speaker(line: Sequence[str], spoken: Mapping[str, Spoken], name: str) -> str:
    known = spoken.get(name, Spoken())
    return speaker_of(line, known.ran, known.carried)


class _Then:
    """A commit of before, beside the one that was pushed; read once for all its workflows."""

    def __init__(self, wiring: Wiring, repo: Repo, now: Project, sha: str, after: str) -> None:
        self._now, self._then = now, Project()
        self._changed = wiring.git.changed_paths(str(repo.id), sha, after)
        if self._changed is not None:
            same_files = set(FILES).isdisjoint(self._changed)
            self._then = now if same_files else _readable(wiring, repo, sha)

    def reads_the_same(self, name: str) -> bool:
        return reads_the_same(name, self._then, self._now, self._changed)


def _readable(wiring: Wiring, repo: Repo, sha: str) -> Project:
    try:
        return read_project_at(wiring, repo, sha)
    except (ConfigProblems, NotFound):
        return Project()  # nothing has run there
