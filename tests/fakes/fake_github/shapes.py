"""GitHub's JSON of accounts, repositories, Apps, installations and commits. Pure: addresses and state in, dicts out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fake_github import git_store
from fake_github.git_store import CommitInfo, FileChange
from fake_github.state import Account, App, Delivery, Installation, Json, Repo, iso, node_id

_USER_LINKS = ("followers", "gists", "starred", "subscriptions", "organizations", "repos", "events", "received_events")
_REPO_LINKS = {
    "archive_url": "{archive_format}{/ref}", "assignees_url": "assignees{/user}", "blobs_url": "git/blobs{/sha}",
    "branches_url": "branches{/branch}", "collaborators_url": "collaborators{/collaborator}",
    "comments_url": "comments{/number}", "commits_url": "commits{/sha}", "compare_url": "compare/{base}...{head}",
    "contents_url": "contents/{+path}", "contributors_url": "contributors", "deployments_url": "deployments",
    "downloads_url": "downloads", "events_url": "events", "forks_url": "forks", "git_commits_url": "git/commits{/sha}",
    "git_refs_url": "git/refs{/sha}", "git_tags_url": "git/tags{/sha}", "hooks_url": "hooks",
    "issue_comment_url": "issues/comments{/number}", "issue_events_url": "issues/events{/number}",
    "issues_url": "issues{/number}", "keys_url": "keys{/key_id}", "labels_url": "labels{/name}",
    "languages_url": "languages", "merges_url": "merges", "milestones_url": "milestones{/number}",
    "notifications_url": "notifications{?since,all,participating}", "pulls_url": "pulls{/number}",
    "releases_url": "releases{/id}", "stargazers_url": "stargazers", "statuses_url": "statuses/{sha}",
    "subscribers_url": "subscribers", "subscription_url": "subscription", "tags_url": "tags", "teams_url": "teams",
    "trees_url": "git/trees{/sha}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the fake is: pages and clones below `web`, REST below `api`."""

    web: str
    api: str

    def repo(self, repo: Repo) -> str:
        return f"{self.api}/repos/{repo.full_name}"

    def page(self, repo: Repo) -> str:
        return f"{self.web}/{repo.full_name}"


def account(at: Addresses, who: Account) -> Json:
    url = f"{at.api}/users/{who.login}"
    return {
        "login": who.login, "id": who.id, "node_id": node_id("U", who.id), "avatar_url": f"{at.web}/u/{who.id}?v=4",
        "gravatar_id": "", "url": url, "html_url": f"{at.web}/{who.login}",
        "following_url": f"{url}/following{{/other_user}}",
        **{f"{name}_url": f"{url}/{name}" for name in _USER_LINKS}, "type": who.type, "user_view_type": "public",
        "site_admin": False,
    }  # fmt: skip


def repository(at: Addresses, repo: Repo, *, full: bool = True) -> Json:
    """The repository; `full` with what only `GET /repos/O/R` and webhooks tell."""
    url, web = at.repo(repo), at.page(repo)
    shape: Json = {
        "id": repo.id, "node_id": node_id("R", repo.id), "name": repo.name, "full_name": repo.full_name,
        "private": repo.private, "owner": account(at, repo.owner), "html_url": web, "description": None,
        "fork": repo.fork_of is not None, "url": url,
        **{name: f"{url}/{rest}" for name, rest in _REPO_LINKS.items()},
    }  # fmt: skip
    if not full:
        return shape
    open_issues = sum(1 for issue in repo.issues.values() if issue.state == "open")
    shape |= {
        "created_at": iso(repo.created_at), "updated_at": iso(repo.created_at), "pushed_at": iso(repo.pushed_at),
        "git_url": web.replace("http", "git", 1) + ".git", "ssh_url": f"git@localhost:{repo.full_name}.git",
        "clone_url": f"{web}.git", "svn_url": web, "homepage": None, "size": 1, "stargazers_count": 0,
        "watchers_count": 0, "language": None, "has_issues": True, "has_projects": True, "has_downloads": True,
        "has_wiki": False, "has_pages": False, "has_discussions": False, "forks_count": 0, "mirror_url": None,
        "archived": False, "disabled": False, "open_issues_count": open_issues, "license": None,
        "allow_forking": True, "is_template": False, "topics": [],
        "web_commit_signoff_required": False, "custom_properties": {},
        "visibility": "private" if repo.private else "public",
        "forks": 0, "open_issues": open_issues, "watchers": 0, "default_branch": repo.default_branch,
    }  # fmt: skip
    return shape


def full_repository(at: Addresses, repo: Repo) -> Json:
    """What `GET /repos/O/R` says above that."""
    shape = repository(at, repo) | {"network_count": 0, "subscribers_count": 0}
    shape["pushed_at"] = shape["pushed_at"] or shape["created_at"]
    if repo.fork_of is not None:
        shape |= {"parent": repository(at, repo.fork_of), "source": repository(at, repo.fork_of)}
    return shape


def repository_line(repo: Repo) -> Json:
    """As installation events list repositories."""
    return {
        "id": repo.id,
        "node_id": node_id("R", repo.id),
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
    }


def integration(at: Addresses, app: App) -> Json:
    return {
        "id": app.id, "client_id": app.client_id, "slug": app.slug, "node_id": node_id("A", app.id),
        "owner": account(at, app.owner), "name": app.name, "description": "", "external_url": app.external_url,
        "html_url": app.html_url, "created_at": iso(app.created_at), "updated_at": iso(app.created_at),
        "permissions": dict(app.permissions), "events": list(app.events),
    }  # fmt: skip


def installation(at: Addresses, found: Installation) -> Json:
    return {
        "id": found.id, "account": account(at, found.account),
        "repository_selection": "all" if found.repo_ids is None else "selected",
        "access_tokens_url": f"{at.api}/app/installations/{found.id}/access_tokens",
        "repositories_url": f"{at.api}/installation/repositories",
        "html_url": f"{at.web}/settings/installations/{found.id}", "app_id": found.app.id,
        "app_slug": found.app.slug, "client_id": found.app.client_id, "target_id": found.account.id,
        "target_type": found.account.type, "permissions": dict(found.permissions), "events": list(found.app.events),
        "created_at": iso(found.created_at), "updated_at": iso(found.created_at), "single_file_name": None,
        "has_multiple_single_files": False, "single_file_paths": [], "suspended_by": None,
        "suspended_at": iso(found.suspended_at),
    }  # fmt: skip


def delivery(found: Delivery, *, whole: bool = False) -> Json:
    shape: Json = {
        "id": found.id, "guid": found.guid, "delivered_at": iso(found.delivered_at), "redelivery": found.redelivery,
        "duration": round(found.duration, 3), "status": found.status, "status_code": found.status_code,
        "event": found.event, "action": found.action, "installation_id": found.installation_id,
        "repository_id": found.repository_id, "throttled_at": None,
    }  # fmt: skip
    if whole:
        shape["url"] = found.url
        shape["request"] = {"headers": dict(found.headers), "payload": found.payload}
        shape["response"] = {"headers": dict(found.answer_headers), "payload": found.answer or None}
    return shape


def commit_line(info: CommitInfo) -> Json:
    """The Git part of a commit."""
    author = {"name": info.author.name, "email": info.author.email, "date": _z(info.authored)}
    committer = {"name": info.committer.name, "email": info.committer.email, "date": _z(info.committed)}
    return {"author": author, "committer": committer, "message": info.message}


def commit(at: Addresses, repo: Repo, info: CommitInfo, who: Account | None, *, whole: bool = False) -> Json:
    url, web = at.repo(repo), at.page(repo)
    person = account(at, who) if who else None
    verification = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    shape: Json = {
        "sha": info.sha, "node_id": "C_" + info.sha[:12], "url": f"{url}/commits/{info.sha}",
        "html_url": f"{web}/commit/{info.sha}", "comments_url": f"{url}/commits/{info.sha}/comments",
        "commit": {
            **commit_line(info), "url": f"{url}/git/commits/{info.sha}", "comment_count": 0,
            "tree": {"sha": info.tree, "url": f"{url}/git/trees/{info.tree}"}, "verification": verification,
        },
        "author": person, "committer": person,
        "parents": [
            {"sha": parent, "url": f"{url}/commits/{parent}", "html_url": f"{web}/commit/{parent}"}
            for parent in info.parents
        ],
    }  # fmt: skip
    if whole:
        old = info.parents[0] if info.parents else git_store.EMPTY_TREE
        files = git_store.diff(repo.path, old, info.sha)
        plus, minus = sum(f.additions for f in files), sum(f.deletions for f in files)
        shape["stats"] = {"additions": plus, "deletions": minus, "total": plus + minus}
        shape["files"] = [file_change(at, repo, info.sha, change) for change in files]
    return shape


def pushed_commit(at: Addresses, repo: Repo, info: CommitInfo, login: str) -> Json:
    """A commit as a push tells it, with the names it touched."""
    author = {"name": info.author.name, "email": info.author.email, "date": info.authored, "username": login}
    committer = {"name": info.committer.name, "email": info.committer.email, "date": info.committed, "username": login}
    return {
        "id": info.sha, "tree_id": info.tree, "distinct": True, "message": info.message, "timestamp": info.committed,
        "url": f"{at.page(repo)}/commit/{info.sha}", "author": author, "committer": committer,
        **git_store.changed_names(repo.path, info.sha),
    }  # fmt: skip


def file_change(at: Addresses, repo: Repo, sha: str, change: FileChange) -> Json:
    web = at.page(repo)
    shape: Json = {
        "sha": change.sha, "filename": change.path, "status": change.status, "additions": change.additions,
        "deletions": change.deletions, "changes": change.additions + change.deletions,
        "blob_url": f"{web}/blob/{sha}/{change.path}", "raw_url": f"{web}/raw/{sha}/{change.path}",
        "contents_url": f"{at.repo(repo)}/contents/{change.path}?ref={sha}", "patch": "",
    }  # fmt: skip
    if change.previous is not None:
        shape["previous_filename"] = change.previous
    return shape


def _z(stamp: str) -> str:
    return stamp.replace("+00:00", "Z")


def failure(message: str, **more: Any) -> Json:
    """GitHub's error body."""
    return {"message": message, **more, "documentation_url": "https://docs.github.com/rest"}
