"""Which words begin commands of workflows here. Other programs have commands too: a word that no workflow of the head,
or of the branches it may go to, knows is left alone."""

from __future__ import annotations

from collections.abc import Sequence

from dstack.errors import DstackError, ForgeBusy, ForgeDown, Unavailable
from dstack.language import FILES, Project, read_project
from dstack.server.decide.command_lines import MAIN_WORD, Line
from dstack.server.forge_events import IssueComment
from dstack.server.gateways.snapshots import read_files
from dstack.server.models import PullRequest, Repo
from dstack.server.services.mirror_commit import mirror_commit
from dstack.server.services.record_pull import record_pull
from dstack.server.store.github import pull_by_number
from dstack.server.wiring import Wiring, place_of


def words_of(project: Project) -> dict[str, tuple[str, ...]]:
    """Command -> the workflows it starts."""
    found: dict[str, tuple[str, ...]] = {}
    for workflow in project.workflows.values():
        if workflow.triggers.comment:
            found[workflow.triggers.comment] = (*found.get(workflow.triggers.comment, ()), workflow.name)
    return found


def known_words(wiring: Wiring, repo: Repo, event: IssueComment, lines: Sequence[Line]) -> set[str]:
    """Those of workflows, as far as they are known here without asking the forge."""
    if all(line.word == MAIN_WORD for line in lines):
        return set()
    repo_id = repo.id or 0
    pull = wiring.db.read(lambda s: pull_by_number(s, repo_id, event.number))
    if pull is None and event.is_pull:
        pull = _learn(wiring, repo, event.number)
    heads = wiring.git.heads(str(repo_id)) if wiring.git.exists(str(repo_id)) else {}
    branches = {repo.default_branch, pull.base_branch if pull is not None else ""}
    commits = [heads[ref] for branch in sorted(branches) if (ref := f"refs/heads/{branch}") in heads]
    if pull is not None:
        commits += [pull.base_sha, pull.head_sha]
    return {word for sha in dict.fromkeys(commits) for word in _words_at(wiring, repo_id, sha)}


def _learn(wiring: Wiring, repo: Repo, number: int) -> PullRequest | None:
    """One that was there before the App was, or of which no news came; once, so that its words are known."""
    try:
        facts = wiring.forge.pull(place_of(repo), number)
        pull = wiring.db.write(lambda s: record_pull(s, repo.id or 0, facts, wiring.clock.now()))
        mirror_commit(wiring, repo, pull.base_sha, branch=pull.base_branch)
        mirror_commit(wiring, repo, pull.head_sha, pull=pull)
    except (Unavailable, ForgeBusy, ForgeDown):
        raise
    except DstackError:  # it cannot be had: then it has no words of its own
        return None
    return pull


def _words_at(wiring: Wiring, repo_id: int, sha: str) -> set[str]:
    """Of a commit that is not here, or has no workflows that can be read: none."""
    try:
        return set(words_of(read_project(read_files(wiring.git, str(repo_id), sha, FILES))))
    except DstackError:
        return set()
