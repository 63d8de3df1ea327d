"""What GitHub announces when something happens: one function an event, from state to webhook payloads."""

from __future__ import annotations

from fake_github import git_store, shapes, shapes_work
from fake_github.git_store import ZEROS
from fake_github.state import Account, App, CheckRun, CheckSuite, Comment, Issue, Json, Repo, Status, iso
from fake_github.world import World


def pushed(world: World, repo: Repo, ref: str, before: str, after: str, who: Account, forced: bool = False) -> None:
    """A ref moved (`ref` is full; ZEROS: it was or is not there): push, create or delete, and what follows."""
    created, deleted = before == ZEROS, after == ZEROS
    head = None if deleted else git_store.resolve(repo.path, after)
    commits: list[Json] = []
    default = git_store.resolve(repo.path, f"refs/heads/{repo.default_branch}")
    if head and ref.startswith("refs/heads/"):
        # A new branch tells what it has over the default branch; compare's base is that branch's head.
        start = before if not created else default if ref != f"refs/heads/{repo.default_branch}" else None
        infos = git_store.log(repo.path, head, *([f"^{start}"] if start else []))
        commits = [shapes.pushed_commit(world.at, repo, info, who.login) for info in infos]
    tip = shapes.pushed_commit(world.at, repo, git_store.show(repo.path, head), who.login) if head else None
    beside = created and head is not None and head == default and not commits
    short = ref.split("/", 2)[-1]
    pushed_at = int(world.clock())
    owner = {**shapes.account(world.at, repo.owner), "name": repo.owner.login, "email": None}
    described = {"created_at": int(repo.created_at), "pushed_at": pushed_at, "owner": owner, "stargazers": 0,
                 "master_branch": repo.default_branch}  # fmt: skip
    payload: Json = {
        "ref": ref, "before": before, "after": after, "created": created, "deleted": deleted, "forced": forced,
        "base_ref": f"refs/heads/{repo.default_branch}" if beside else None,
        "compare": f"{world.at.page(repo)}/compare/{before[:12]}...{after[:12]}",
        "commits": commits, "head_commit": tip, "repository": described,
        "pusher": {"name": who.login, "email": f"{who.login}@example.org"},
    }  # fmt: skip
    world.announce(repo, "push", payload, who)
    if (created or deleted) and ref.startswith(("refs/heads/", "refs/tags/")):
        kind = "branch" if ref.startswith("refs/heads/") else "tag"
        told = {"ref": short, "ref_type": kind, "pusher_type": "user"}
        more = {"full_ref": ref, "master_branch": repo.default_branch, "description": None} if created else {}
        world.announce(repo, "create" if created else "delete", {**told, **more}, who)
    if head and ref.startswith("refs/heads/"):
        request_suites(world, repo, head, short, who)


def request_suites(world: World, repo: Repo, sha: str, branch: str | None, who: Account) -> None:
    """A pushed commit gets a check suite of every App that may write checks."""
    for installation in world.installed_on(repo):
        app = installation.app
        if installation.permissions.get("checks") != "write":
            continue
        known = any(suite.sha == sha and suite.app is app for suite in repo.suites)
        suite = suite_of(world, repo, sha, app, branch)
        if not known and "check_suite" in app.events:
            told = {"action": "requested", "check_suite": shapes_work.check_suite(world.at, repo, suite)}
            world.announce_to(installation, "check_suite", told, who, repo)


def suite_of(world: World, repo: Repo, sha: str, app: App, branch: str | None = None) -> CheckSuite:
    """The one suite of an App on a commit."""
    for suite in repo.suites:
        if suite.sha == sha and suite.app is app:
            return suite
    suite = CheckSuite(world.new_id(), sha, app, branch, world.clock())
    repo.suites.append(suite)
    return suite


def pull_request(world: World, repo: Repo, issue: Issue, action: str, who: Account, **more: object) -> None:
    issue.updated_at = max(issue.updated_at, world.clock())
    numbers = pull_numbers(repo, issue)
    told = shapes_work.pull(world.at, repo, issue, numbers)
    world.announce(repo, "pull_request", {"action": action, "number": issue.number, "pull_request": told, **more}, who)


def pull_numbers(repo: Repo, issue: Issue) -> Json:
    """What is counted for a whole pull request."""
    found = issue.pull
    assert found is not None
    base = git_store.merge_base(repo.path, found.base_sha, found.head_sha)
    changes = git_store.diff(repo.path, base, found.head_sha) if base else []
    return {
        "comments": sum(1 for comment in repo.comments.values() if comment.number == issue.number),
        "commits": git_store.count(repo.path, found.base_sha, found.head_sha),
        "additions": sum(change.additions for change in changes),
        "deletions": sum(change.deletions for change in changes),
        "changed_files": len(changes),
    }


def issue_comment(world: World, comment: Comment, action: str, who: Account, **more: object) -> None:
    repo = comment.repo
    told = {
        "action": action,
        "issue": shapes_work.issue(world.at, repo, repo.issues[comment.number]),
        "comment": shapes_work.comment(world.at, comment),
        **more,
    }
    world.announce(repo, "issue_comment", told, who)


def issues(world: World, repo: Repo, issue: Issue, action: str, who: Account) -> None:
    told = {"action": action, "issue": shapes_work.issue(world.at, repo, issue)}
    world.announce(repo, "issues", told, who)


def status(world: World, repo: Repo, found: Status) -> None:
    info = git_store.show(repo.path, found.sha)
    branches = [
        {"name": ref.removeprefix("refs/heads/"), "commit": {"sha": sha, "url": ""}, "protected": False}
        for ref, sha in git_store.refs(repo.path, "refs/heads/").items()
        if sha == found.sha
    ]
    told = {
        "id": found.id, "sha": found.sha, "name": repo.full_name, "target_url": found.target_url,
        "avatar_url": f"{world.at.web}/u/{found.creator.id}", "context": found.context,
        "description": found.description, "state": found.state,
        "commit": shapes.commit(world.at, repo, info, found.creator), "branches": branches[:10],
        "created_at": iso(found.created_at), "updated_at": iso(found.created_at),
    }  # fmt: skip
    world.announce(repo, "status", told, found.creator)


def check_run(
    world: World, repo: Repo, run: CheckRun, action: str, who: Account, *, only: App | None = None, **more: object
) -> None:
    told = {"action": action, "check_run": shapes_work.check_run(world.at, repo, run, hook=True), **more}
    world.announce(repo, "check_run", told, who, only)


def check_suite(world: World, repo: Repo, suite: CheckSuite, action: str, who: Account) -> None:
    told = {"action": action, "check_suite": shapes_work.check_suite(world.at, repo, suite)}
    world.announce(repo, "check_suite", told, who, suite.app)


def repository(world: World, repo: Repo, action: str, who: Account, **more: object) -> None:
    world.announce(repo, "repository", {"action": action, **more}, who)
