"""GitHub's JSON of what people and Apps write about code: pulls, issues, comments, statuses, check runs. Pure."""

from __future__ import annotations

import zlib
from typing import Any

from fake_github import git_store, shapes
from fake_github.shapes import Addresses
from fake_github.state import (
    CheckRun,
    CheckSuite,
    Comment,
    Issue,
    Json,
    Pull,
    Reaction,
    Repo,
    Status,
    iso,
    node_id,
)

REACTIONS = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")


def association(repo: Repo, login: str) -> str:
    """As payloads say it to an App that may not see members: next to nothing. Never a ground to allow anything."""
    return "OWNER" if login == repo.owner.login else "NONE"


def pull(at: Addresses, repo: Repo, issue: Issue, numbers: Json | None = None) -> Json:
    """A pull request; `numbers` (commits, additions, ...) makes it the whole one instead of a list's line."""
    found = issue.pull
    assert found is not None
    url, web = f"{at.repo(repo)}/pulls/{issue.number}", f"{at.page(repo)}/pull/{issue.number}"
    of_issue = f"{at.repo(repo)}/issues/{issue.number}"
    statuses = f"{at.repo(repo)}/statuses/{found.head_sha}"
    links = {
        "self": url, "html": web, "issue": of_issue, "comments": f"{of_issue}/comments",
        "review_comments": f"{url}/comments", "review_comment": f"{at.repo(repo)}/pulls/comments{{/number}}",
        "commits": f"{url}/commits", "statuses": statuses,
    }  # fmt: skip
    shape: Json = {
        "id": found.id, "node_id": node_id("PR", found.id), "url": url, "html_url": web, "diff_url": f"{web}.diff",
        "patch_url": f"{web}.patch", "issue_url": of_issue, "commits_url": f"{url}/commits",
        "review_comments_url": f"{url}/comments",
        "review_comment_url": f"{at.repo(repo)}/pulls/comments{{/number}}", "comments_url": f"{of_issue}/comments",
        "statuses_url": statuses, "number": issue.number, "state": issue.state, "locked": False,
        "title": issue.title, "user": shapes.account(at, issue.author), "body": issue.body, "labels": [],
        "milestone": None, "created_at": iso(issue.created_at), "updated_at": iso(issue.updated_at),
        "closed_at": iso(issue.closed_at), "merged_at": iso(found.merged_at),
        "merge_commit_sha": found.merge_commit_sha, "assignee": None, "assignees": [], "requested_reviewers": [],
        "requested_teams": [], "head": _side(at, found.head_repo, found, head=True),
        "base": _side(at, repo, found, head=False),
        "_links": {name: {"href": address} for name, address in links.items()},
        "author_association": association(repo, issue.author.login), "auto_merge": None, "draft": found.draft,
        "active_lock_reason": None,
    }  # fmt: skip
    if numbers is not None:
        merger = shapes.account(at, found.merged_by) if found.merged_by else None
        merged = found.merged_at is not None
        shape |= {
            "merged": merged, "mergeable": None if merged else True, "rebaseable": None, "mergeable_state": "unknown",
            "merged_by": merger, "review_comments": 0, "maintainer_can_modify": False, **numbers,
        }  # fmt: skip
    return shape


def _side(at: Addresses, repo: Repo | None, found: Pull, *, head: bool) -> Json:
    ref, sha = (found.head_ref, found.head_sha) if head else (found.base_ref, found.base_sha)
    owner = found.head_owner if repo is None else repo.owner
    whole = shapes.repository(at, repo) if repo else None
    return {"label": f"{owner.login}:{ref}", "ref": ref, "sha": sha, "user": shapes.account(at, owner), "repo": whole}


def pull_line(at: Addresses, repo: Repo, issue: Issue) -> Json:
    """A pull request as check runs name it."""
    found = issue.pull
    assert found is not None
    head = found.head_repo or repo

    def side(of: Repo, ref: str, sha: str) -> Json:
        return {"ref": ref, "sha": sha, "repo": {"id": of.id, "url": at.repo(of), "name": of.name}}

    return {
        "url": f"{at.repo(repo)}/pulls/{issue.number}",
        "id": found.id,
        "number": issue.number,
        "head": side(head, found.head_ref, found.head_sha),
        "base": side(repo, found.base_ref, found.base_sha),
    }


def issue(at: Addresses, repo: Repo, found: Issue) -> Json:
    url = f"{at.repo(repo)}/issues/{found.number}"
    kind = "pull" if found.pull else "issues"
    web = f"{at.page(repo)}/{kind}/{found.number}"
    comments = sum(1 for comment in repo.comments.values() if comment.number == found.number)
    shape: Json = {
        "url": url, "repository_url": at.repo(repo), "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments", "events_url": f"{url}/events", "html_url": web, "id": found.id,
        "node_id": node_id("I", found.id), "number": found.number, "title": found.title,
        "user": shapes.account(at, found.author),
        "labels": [{"id": zlib.crc32(name.encode()), "name": name, "color": "ededed", "default": False}
                   for name in found.labels],
        "state": found.state, "locked": False, "assignee": None, "assignees": [], "milestone": None,
        "comments": comments, "created_at": iso(found.created_at), "updated_at": iso(found.updated_at),
        "closed_at": iso(found.closed_at), "author_association": association(repo, found.author.login),
        "active_lock_reason": None, "body": found.body, "state_reason": "completed" if found.closed_at else None,
        "performed_via_github_app": shapes.integration(at, found.app) if found.app else None,
    }  # fmt: skip
    if found.pull:
        api = f"{at.repo(repo)}/pulls/{found.number}"
        shape["draft"] = found.pull.draft
        shape["pull_request"] = {
            "url": api, "html_url": web, "diff_url": f"{web}.diff", "patch_url": f"{web}.patch",
            "merged_at": iso(found.pull.merged_at),
        }  # fmt: skip
    return shape


def comment(at: Addresses, found: Comment) -> Json:
    url = f"{at.repo(found.repo)}/issues/comments/{found.id}"
    of_issue = found.repo.issues[found.number]
    kind = "pull" if of_issue.pull else "issues"
    counts = {name: sum(1 for r in found.reactions if r.content == name) for name in REACTIONS}
    return {
        "url": url, "html_url": f"{at.page(found.repo)}/{kind}/{found.number}#issuecomment-{found.id}",
        "issue_url": f"{at.repo(found.repo)}/issues/{found.number}", "id": found.id,
        "node_id": node_id("IC", found.id), "user": shapes.account(at, found.author),
        "created_at": iso(found.created_at), "updated_at": iso(found.updated_at),
        "author_association": association(found.repo, found.author.login), "body": found.body,
        "reactions": {"url": f"{url}/reactions", "total_count": len(found.reactions), **counts},
        "performed_via_github_app": shapes.integration(at, found.app) if found.app else None,
    }  # fmt: skip


def reaction(at: Addresses, found: Reaction) -> Json:
    return {
        "id": found.id,
        "node_id": node_id("REA", found.id),
        "user": shapes.account(at, found.account),
        "content": found.content,
        "created_at": iso(found.created_at),
    }


def status(at: Addresses, repo: Repo, found: Status, *, creator: bool = True) -> Json:
    who = shapes.account(at, found.creator)
    shape: Json = {
        "url": f"{at.repo(repo)}/statuses/{found.sha}", "avatar_url": who["avatar_url"], "id": found.id,
        "node_id": node_id("SC", found.id), "state": found.state, "description": found.description,
        "target_url": found.target_url, "context": found.context, "created_at": iso(found.created_at),
        "updated_at": iso(found.created_at),
    }  # fmt: skip
    return {**shape, "creator": who} if creator else shape


def check_run(at: Addresses, repo: Repo, found: CheckRun, *, hook: bool = False) -> Json:
    """A check run; with `hook` as webhooks show it (its whole suite, its buttons are never told)."""
    url = f"{at.repo(repo)}/check-runs/{found.id}"
    output = {
        "title": found.output.get("title"), "summary": found.output.get("summary"), "text": found.output.get("text"),
        "annotations_count": len(found.annotations), "annotations_url": f"{url}/annotations",
    }  # fmt: skip
    return {
        "id": found.id, "name": found.name, "node_id": node_id("CR", found.id), "head_sha": found.head_sha,
        "external_id": found.external_id, "url": url, "html_url": f"{at.page(repo)}/runs/{found.id}",
        "details_url": found.details_url, "status": found.status, "conclusion": found.conclusion,
        "started_at": found.started_at, "completed_at": found.completed_at, "output": output,
        "check_suite": check_suite(at, repo, found.suite) if hook else {"id": found.suite.id},
        "app": shapes.integration(at, found.app), "pull_requests": pulls_at(at, repo, found.head_sha),
    }  # fmt: skip


def pulls_at(at: Addresses, repo: Repo, sha: str) -> list[Json]:
    """Open pull requests of this repository's own branches with this head; a fork's are never among them."""
    return [
        pull_line(at, repo, found)
        for found in repo.pulls
        if found.state == "open" and found.pull and found.pull.head_sha == sha and found.pull.head_repo is repo
    ]


def check_suite(at: Addresses, repo: Repo, found: CheckSuite) -> Json:
    runs = [run for run in repo.checks.values() if run.suite is found]
    done = bool(runs) and not found.reset and all(run.status == "completed" for run in runs)
    worst = ("action_required", "timed_out", "failure", "cancelled", "stale", "success", "neutral", "skipped")
    conclusions: list[Any] = sorted((run.conclusion for run in runs if run.conclusion in worst), key=worst.index)
    return {
        "id": found.id, "node_id": node_id("CS", found.id), "head_branch": found.head_branch, "head_sha": found.sha,
        "status": "completed" if done else "queued", "conclusion": conclusions[0] if done and conclusions else None,
        "url": f"{at.repo(repo)}/check-suites/{found.id}", "before": None, "after": found.sha,
        "pull_requests": pulls_at(at, repo, found.sha), "app": shapes.integration(at, found.app),
        "created_at": iso(found.created_at), "updated_at": iso(found.created_at), "latest_check_runs_count": len(runs),
        "check_runs_url": f"{at.repo(repo)}/check-suites/{found.id}/check-runs",
        "head_commit": _head_commit(repo, found.sha),
    }  # fmt: skip


def _head_commit(repo: Repo, sha: str) -> Json:
    info = git_store.show(repo.path, sha)
    person, committer = info.author, info.committer
    return {
        "id": sha, "tree_id": info.tree, "message": info.message, "timestamp": info.committed,
        "author": {"name": person.name, "email": person.email},
        "committer": {"name": committer.name, "email": committer.email},
    }  # fmt: skip


def annotation(at: Addresses, repo: Repo, run: CheckRun, given: Json) -> Json:
    blank = {"start_column": None, "end_column": None, "title": None, "raw_details": None}
    return {**blank, **given, "blob_href": f"{at.page(repo)}/blob/{run.head_sha}/{given['path']}"}
