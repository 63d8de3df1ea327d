"""Brings commits of a forge's repository here, before anything is made of them."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import GitFailed
from dstack.server.gateways.mirrors import fork_id
from dstack.server.models import PullRequest, Repo
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring, place_of


def mirror_commit(wiring: Wiring, repo: Repo, sha: str, *, branch: str = "", pull: PullRequest | None = None) -> str:
    """The commit is here afterwards; what `Run.objects` of a run of it should be: empty, or the repository of its own
    that a fork's pull request has. Nothing is asked of the forge when it was here before. `branch`: where it stands,
    if that is known, so that no other has to be looked at.

    Raises ForgeDown, ForgeBusy and Unavailable when trying again may help; NotConnected, ForgeRefused and GitFailed.
    """
    repo_id = str(repo.id)
    if pull is not None and pull.is_fork:
        return _mirror_fork(wiring, repo, sha, pull)
    with wiring.mirrors.alone(repo_id):
        if not _is_here(wiring, repo_id, sha):
            address, token = wiring.forge.clone_address(place_of(repo))
            _fetch_branches(wiring, repo, address, token, branch)
            if not wiring.git.has_commit(repo_id, sha):
                if pull is not None:
                    wiring.mirrors.fetch_pull(repo_id, address, token, pull.number, sha)
                else:
                    wiring.mirrors.fetch_commit(repo_id, address, token, sha)
    return ""


def mirror_heads(wiring: Wiring, repo: Repo) -> dict[str, str]:
    """All branches and Git tags as the forge has them, by full name. It is asked again and again, and cheap where
    nothing has changed. Raises likewise."""
    repo_id, place = str(repo.id), place_of(repo)
    with wiring.mirrors.alone(repo_id):
        try:
            _fetch_branches(wiring, repo, *wiring.forge.clone_address(place, kept=True))
        except GitFailed:  # the token may have died
            _fetch_branches(wiring, repo, *wiring.forge.clone_address(place))
    return wiring.git.heads(repo_id)


def mirror_branch(wiring: Wiring, repo: Repo, branch: str) -> None:
    """One branch as the forge has it. Raises likewise."""
    with wiring.mirrors.alone(str(repo.id)):
        _fetch_branches(wiring, repo, *wiring.forge.clone_address(place_of(repo)), branch)


def _mirror_fork(wiring: Wiring, repo: Repo, sha: str, pull: PullRequest) -> str:
    """The base is brought up to date first: the fork's repository borrows from it, and is compared with it."""
    repo_id = str(repo.id)
    fork = fork_id(repo_id, pull.number)
    with wiring.mirrors.alone(repo_id):
        has_base = _is_here(wiring, repo_id, pull.base_sha) if pull.base_sha else False
        if has_base and _is_here(wiring, fork, sha):
            return fork
        address, token = wiring.forge.clone_address(place_of(repo))
        if not has_base:
            _fetch_branches(wiring, repo, address, token)
        return wiring.mirrors.fetch_fork_pull(repo_id, pull.number, address, token, sha)


def _fetch_branches(wiring: Wiring, repo: Repo, address: str, token: str, branch: str = "") -> None:
    """All of them, or the one; and HEAD as the forge has it."""
    repo_id = str(repo.id)
    if not wiring.git.exists(repo_id):
        wiring.git.create(repo_id, repo.default_branch)
        branch = ""
    wiring.mirrors.fetch_branches(repo_id, address, token, branch)
    if branch:
        return
    heads = wiring.git.heads(repo_id)
    if heads and f"refs/heads/{repo.default_branch}" not in heads:  # it has another now, and the news of it was lost
        _note_default_branch(wiring, repo)
    if wiring.git.default_branch(repo_id) != repo.default_branch:
        wiring.git.set_default_branch(repo_id, repo.default_branch)


def _note_default_branch(wiring: Wiring, repo: Repo) -> None:
    found, _ = wiring.forge.find_repo(repo.owner, repo.name)
    repo.default_branch = found.default_branch

    def keep(session: Session) -> None:
        row = repo_by_id(session, repo.id or 0)
        row.default_branch = found.default_branch
        session.add(row)

    wiring.db.write(keep)


def _is_here(wiring: Wiring, repo_id: str, sha: str) -> bool:
    return wiring.git.exists(repo_id) and wiring.git.has_commit(repo_id, sha)
