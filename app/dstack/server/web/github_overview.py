"""Reads what the page about GitHub shows: accounts, repositories, and what GitHub did not take."""

from __future__ import annotations

from urllib.parse import quote

from sqlmodel import Session

from dstack.server.models import Repo
from dstack.server.models.repo import GITHUB
from dstack.server.store.github import list_installations
from dstack.server.store.outbox import CHECK, NOTIFY
from dstack.server.store.reports import parked
from dstack.server.store.repos import list_repos
from dstack.server.store.runs import runs_by_id
from dstack.server.web.render.forge_links import ForgeLinks, refusal
from dstack.server.web.render.models import ForgeOverview, ForgeRepo, Refusal

_MOST = 50


def forge_overview(session: Session, github_url: str) -> ForgeOverview:
    """Repositories that our App may not act in any more are shown with the reason; of an account that removed it, only
    that."""
    repos = [repo for repo in list_repos(session) if repo.forge == GITHUB]
    return ForgeOverview(
        [
            ForgeRepo(row.account, f"{github_url}/{quote(row.account)}", row.problem)
            for row in list_installations(session)
        ],
        [ForgeRepo(repo.full_name, _url(github_url, repo), repo.problem or _unread(repo)) for repo in repos],
        _refused(session, {repo.id or 0: repo.full_name for repo in list_repos(session)}),
    )


def _unread(repo: Repo) -> str:
    return f"it could not be looked at, and is tried again: {repo.unread}" if repo.unread else ""


def _url(github_url: str, repo: Repo) -> str:
    return ForgeLinks.of(github_url, repo.full_name, is_mirror=True).repo_url


def _refused(session: Session, names: dict[int, str]) -> list[tuple[str, str, Refusal]]:
    rows = parked(session)[:_MOST]
    about_runs = [int(row.target) for row in rows if row.kind in (CHECK, NOTIFY) and row.target.isdecimal()]
    runs = {str(run_id): run.name for run_id, run in runs_by_id(session, about_runs).items()}
    return [
        (
            names.get(row.repo_id, ""),
            runs.get(row.target, "") if row.kind in (CHECK, NOTIFY) else "",
            refusal(row.kind, row.target, row.problem),
        )
        for row in rows
    ]
