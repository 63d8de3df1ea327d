"""A ref of a repository moved: what GitHub updates and announces because of it, whoever pushed."""

from __future__ import annotations

from fake_github import events, git_store
from fake_github.git_store import ZEROS
from fake_github.state import Account, Issue, Repo
from fake_github.world import World


def ref_moved(world: World, repo: Repo, ref: str, before: str, after: str, who: Account) -> None:
    """`before` and `after` are ids, ZEROS for a ref that was not or is no more. Other refs than branches and tags
    (notes) are announced to nobody."""
    if before == after or not ref.startswith(("refs/heads/", "refs/tags/")):
        return
    repo.pushed_at = world.clock()
    both = ZEROS not in (before, after)
    forced = both and not git_store.is_ancestor(repo.path, before, after)
    events.pushed(world, repo, ref, before, after, who, forced)
    if ref.startswith("refs/heads/"):
        for base, issue in pulls_from(world, repo, ref.removeprefix("refs/heads/")):
            if after == ZEROS:
                close(world, base, issue, who)
            else:
                synchronize(world, base, issue, after, who)


def pulls_from(world: World, repo: Repo, branch: str) -> list[tuple[Repo, Issue]]:
    """Open pull requests, in any repository, whose head is this branch."""
    return [
        (base, issue)
        for base in world.repos.values()
        if not base.gone
        for issue in base.pulls
        if issue.state == "open" and issue.pull and issue.pull.head_repo is repo and issue.pull.head_ref == branch
    ]


def keep_pull_ref(base: Repo, issue: Issue) -> None:
    """refs/pull/N/head of the base repository, with a fork's commits in it."""
    found = issue.pull
    assert found is not None
    if found.head_repo is not None and found.head_repo is not base:
        source = f"refs/heads/{found.head_ref}"
        git_store.fetch(base.path, found.head_repo.path, source, f"refs/pull/{issue.number}/head")
    else:
        git_store.set_ref(base.path, f"refs/pull/{issue.number}/head", found.head_sha)


def synchronize(world: World, base: Repo, issue: Issue, sha: str, who: Account) -> None:
    found = issue.pull
    assert found is not None
    before, found.head_sha = found.head_sha, sha
    found.base_sha = git_store.resolve(base.path, f"refs/heads/{found.base_ref}") or found.base_sha
    keep_pull_ref(base, issue)
    events.pull_request(world, base, issue, "synchronize", who, before=before, after=sha)


def close(world: World, base: Repo, issue: Issue, who: Account) -> None:
    issue.state, issue.closed_at = "closed", world.clock()
    events.pull_request(world, base, issue, "closed", who)
