"""The App, its installations, and the pull requests of its repositories."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam
from sqlmodel import Session, col, select

from dstack.server.models import Approval, ForgeLog, GithubApp, Installation, PullRequest, Repo
from dstack.server.models.repo import GITHUB

# What the App's secrets are sealed under.
KEY_LABEL = "github private key"
SECRET_LABEL = "github webhook secret"  # noqa: S105 - a label, not a secret


def stored_app(session: Session) -> GithubApp | None:
    return session.get(GithubApp, 1)


def log_read_to(session: Session, app_id: int, connected_at: float) -> tuple[float, float]:
    """From when on the App's delivery log is read, and up to when it was; the first time both are `connected_at`."""
    row = session.get(ForgeLog, app_id)
    if row is None:
        row = ForgeLog(app_id=app_id, begun_at=connected_at, read_at=connected_at)
        session.add(row)
    return row.begun_at, row.read_at


def note_log_read(session: Session, app_id: int, now: float) -> None:
    row = session.get(ForgeLog, app_id)
    assert row is not None, "it was begun before it was read"
    row.read_at = now
    session.add(row)


def installation_by_id(session: Session, installation_id: int) -> Installation | None:
    return session.get(Installation, installation_id)


def list_installations(session: Session) -> Sequence[Installation]:
    return session.exec(select(Installation).order_by(col(Installation.account))).all()


_BY_FORGE_ID = select(Repo).where(Repo.forge == GITHUB, Repo.forge_id == bindparam("of_forge"))  # asked of every event


def repo_by_forge_id(session: Session, forge_id: str) -> Repo | None:
    return session.exec(_BY_FORGE_ID, params={"of_forge": forge_id}).first()


def repos_of_installation(session: Session, installation_id: int) -> Sequence[Repo]:
    return session.exec(select(Repo).where(Repo.forge == GITHUB, Repo.installation_id == installation_id)).all()


def mirrored_repos(session: Session) -> Sequence[Repo]:
    """Repositories of the forge that our App may act in."""
    return session.exec(
        select(Repo).where(Repo.forge == GITHUB, col(Repo.installation_id).is_not(None)).order_by(col(Repo.id))
    ).all()


def pull_by_number(session: Session, repo_id: int, number: int) -> PullRequest | None:
    return session.exec(select(PullRequest).where(PullRequest.repo_id == repo_id, PullRequest.number == number)).first()


def approval_of(session: Session, repo_id: int, number: int, sha: str) -> Approval | None:
    return session.exec(
        select(Approval).where(Approval.repo_id == repo_id, Approval.number == number, Approval.sha == sha)
    ).first()


def pulls_of_repo(session: Session, repo_id: int) -> Sequence[PullRequest]:
    return session.exec(select(PullRequest).where(PullRequest.repo_id == repo_id)).all()
