"""Brings commits of a forge's repository here, before anything is made of them."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import NotConnected
from dstack.server.gateways.forge import Place
from dstack.server.gateways.mirrors import fork_id
from dstack.server.models import PullRequest, Repo
from dstack.server.store.repos import repo_by_id
from dstack.server.wiring import Wiring


def mirror_commit(wiring: Wiring, repo: Repo, sha: str, *, branch: str = "", pull: PullRequest | None = None) -> str:
    """The commit is here afterwards; what `Run.objects` of a run of it should be: empty, or the repository of its own
    that a fork's pull request has. Nothing is asked of the forge when it was here before. `branch`: where it stands,
    if that is known; it is here then at its newest, for comparisons.

    Raises ForgeDown, ForgeBusy and Unavailable when trying again may help; NotConnected, ForgeRefused and GitFailed.
    """
    repo_id = str(repo.id)
    if pull is not None and pull.is_fork:
        return _mirror_fork(wiring, repo, sha, pull)
    with wiring.mirrors.alone(repo_id):
        if not _is_here(wiring, repo_id, sha):
            address, token = wiring.forge.clone_address(_place(repo))
            _fetch_branches(wiring, repo, address, token)
            if not wiring.git.has_commit(repo_id, sha):
                if pull is not None:
                    wiring.mirrors.fetch_pull(repo_id, address, token, pull.number, sha)
                else:
                    wiring.mirrors.fetch_commit(repo_id, address, token, sha)
    return ""


def mirror_heads(wiring: Wiring, repo: Repo) -> dict[str, str]:
    """All branches and Git tags as the forge has them, and its default branch; full ref -> commit. Raises likewise."""
    repo_id = str(repo.id)
    with wiring.mirrors.alone(repo_id):
        address, token = wiring.forge.clone_address(_place(repo))
        _fetch_branches(wiring, repo, address, token)
        _follow_head(wiring, repo, wiring.mirrors.default_branch(address, token))
    return wiring.git.heads(repo_id)


def _mirror_fork(wiring: Wiring, repo: Repo, sha: str, pull: PullRequest) -> str:
    """The base is brought up to date first: the fork's repository borrows from it, and is compared with it."""
    repo_id = str(repo.id)
    fork = fork_id(repo_id, pull.number)
    with wiring.mirrors.alone(repo_id):
        has_base = _is_here(wiring, repo_id, pull.base_sha) if pull.base_sha else False
        if has_base and _is_here(wiring, fork, sha):
            return fork
        address, token = wiring.forge.clone_address(_place(repo))
        if not has_base:
            _fetch_branches(wiring, repo, address, token)
        return wiring.mirrors.fetch_fork_pull(repo_id, pull.number, address, token, sha)


def _fetch_branches(wiring: Wiring, repo: Repo, address: str, token: str) -> None:
    repo_id = str(repo.id)
    if not wiring.git.exists(repo_id):
        wiring.git.create(repo_id, repo.default_branch)
    wiring.mirrors.fetch_branches(repo_id, address, token)
    heads = wiring.git.heads(repo_id)
    if heads and f"refs/heads/{wiring.git.default_branch(repo_id)}" not in heads:
        _follow_head(wiring, repo, wiring.mirrors.default_branch(address, token))


def _follow_head(wiring: Wiring, repo: Repo, branch: str) -> None:
    if not branch:  # an empty repository has none yet
        return
    if wiring.git.default_branch(str(repo.id)) != branch:
        wiring.git.set_default_branch(str(repo.id), branch)
    if repo.default_branch != branch:

        def keep(session: Session) -> None:
            row = repo_by_id(session, repo.id or 0)
            row.default_branch = branch
            session.add(row)

        wiring.db.write(keep)
        repo.default_branch = branch


def _is_here(wiring: Wiring, repo_id: str, sha: str) -> bool:
    return wiring.git.exists(repo_id) and wiring.git.has_commit(repo_id, sha)


def _place(repo: Repo) -> Place:
    if repo.installation_id is None:
        raise NotConnected(
            f"the App may not act in {repo.full_name}" + (f": {repo.problem}" if repo.problem else ""),
            "install it there",
        )
    return Place(repo.installation_id, repo.owner, repo.name)
