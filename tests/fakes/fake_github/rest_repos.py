"""REST: repositories, branches, commits, files, pull requests, and who may write. Reading only."""

from __future__ import annotations

import base64
from pathlib import PurePosixPath
from typing import Any

from fake_github import events, git_store, shapes, shapes_work
from fake_github.routing import NotFound, Op, Unprocessable, paged, route
from fake_github.state import Issue, Json
from fake_github.wire import Answer

ONE = "/repos/{owner}/{repo}"


@route("GET", ONE, "metadata:read")
def get_repo(op: Op) -> Answer:
    shape = shapes.full_repository(op.at, op.repo)
    if op.repo.owner.type == "Organization":
        shape["organization"] = shapes.account(op.at, op.repo.owner)
    return Answer(200, shape)


@route("GET", f"{ONE}/branches", "contents:read")
def list_branches(op: Op) -> Answer:
    found = sorted(git_store.refs(op.repo.path, "refs/heads/").items())
    if op.query.get("protected") == "true":
        found = []
    lines = [
        {
            "name": ref.removeprefix("refs/heads/"),
            "commit": {"sha": sha, "url": f"{op.at.repo(op.repo)}/commits/{sha}"},
            "protected": False,
        }
        for ref, sha in found
    ]
    return paged(op, lines)


@route("GET", f"{ONE}/git/matching-refs/{{ref}}", "contents:read")
def matching_refs(op: Op) -> Answer:
    prefix = f"refs/{op.params['ref']}"
    shown = {
        ref: sha
        for ref, sha in git_store.refs(op.repo.path, prefix).items()
        if ref.startswith(("refs/heads/", "refs/tags/", "refs/pull/", "refs/notes/"))
    }
    url = op.at.repo(op.repo)
    lines = [
        {
            "ref": ref,
            "node_id": "REF_" + sha[:12],
            "url": f"{url}/git/{ref}",
            "object": {"type": "commit", "sha": sha, "url": f"{url}/git/commits/{sha}"},
        }
        for ref, sha in sorted(shown.items())
    ]
    return paged(op, lines)


def commit_of(op: Op, name: str) -> str:
    """The commit a caller names. Raises Unprocessable, in GitHub's words."""
    sha = git_store.resolve(op.repo.path, name)
    if sha is None:
        raise Unprocessable(f"No commit found for SHA: {name}")
    return sha


@route("GET", f"{ONE}/compare/{{basehead}}", "contents:read")
def compare(op: Op) -> Answer:
    base_name, dots, head_name = op.params["basehead"].partition("...")
    if not dots:
        raise NotFound
    path = op.repo.path
    base, head = (git_store.resolve(path, name.split(":")[-1]) for name in (base_name, head_name))
    if base is None or head is None or (middle := git_store.merge_base(path, base, head)) is None:
        raise NotFound
    ahead, behind = git_store.count(path, base, head), git_store.count(path, head, base)
    words = {(False, False): "identical", (True, False): "ahead", (False, True): "behind", (True, True): "diverged"}
    infos = git_store.log(path, head, f"^{base}", limit=250)
    web = f"{op.at.page(op.repo)}/compare/{base_name}...{head_name}"
    return Answer(200, {
        "url": f"{op.at.repo(op.repo)}/compare/{base_name}...{head_name}", "html_url": web, "permalink_url": web,
        "diff_url": f"{web}.diff", "patch_url": f"{web}.patch", "base_commit": _commit(op, base),
        "merge_base_commit": _commit(op, middle), "status": words[(ahead > 0, behind > 0)], "ahead_by": ahead,
        "behind_by": behind, "total_commits": ahead, "commits": [_commit(op, info.sha) for info in infos],
        "files": [shapes.file_change(op.at, op.repo, head, change)
                  for change in git_store.diff(path, middle, head)[:300]],
    })  # fmt: skip


def _commit(op: Op, sha: str, *, whole: bool = False) -> Json:
    info = git_store.show(op.repo.path, sha)
    who = op.world.accounts.get(info.author.name.lower())
    return shapes.commit(op.at, op.repo, info, who, whole=whole)


@route("GET", f"{ONE}/contents/{{path}}", "contents:read")
def contents(op: Op) -> Answer:
    sha = git_store.resolve(op.repo.path, op.query.get("ref") or op.repo.default_branch)
    if sha is None:
        raise NotFound
    wanted = op.params["path"].strip("/")
    found = git_store.tree_entries(op.repo.path, sha, wanted)
    if not found:
        raise NotFound
    lines = [_content(op, sha, entry) for entry in found]
    if len(found) > 1 or found[0][2] != wanted or found[0][0] == "tree":
        return Answer(200, lines)
    data = git_store.read_blob(op.repo.path, found[0][1])
    if "raw" in op.request.headers.get("accept", ""):
        return Answer(200, data, {"Content-Type": "application/vnd.github.raw+json; charset=utf-8"})
    encoded = base64.encodebytes(data).decode()
    return Answer(200, {**lines[0], "content": encoded, "encoding": "base64"})


def _content(op: Op, sha: str, entry: tuple[str, str, str, int]) -> dict[str, Any]:
    kind, object_id, path, size = entry
    url = f"{op.at.repo(op.repo)}/contents/{path}?ref={sha}"
    git_url, web = f"{op.at.repo(op.repo)}/git/blobs/{object_id}", f"{op.at.page(op.repo)}/blob/{sha}/{path}"
    raw = f"{op.at.page(op.repo)}/raw/{sha}/{path}" if kind == "blob" else None
    return {
        "name": PurePosixPath(path).name, "path": path, "sha": object_id, "size": size, "url": url, "html_url": web,
        "git_url": git_url, "download_url": raw,
        "type": {"blob": "file", "tree": "dir", "commit": "submodule"}[kind],
        "_links": {"self": url, "git": git_url, "html": web},
    }  # fmt: skip


@route("GET", f"{ONE}/collaborators/{{username}}/permission", "metadata:read")
def permission(op: Op) -> Answer:
    login = op.params["username"]
    if login.lower() not in op.world.accounts:
        raise NotFound
    who = op.world.account(login)
    level, role = op.world.permission(op.repo, who.login)
    held = {"admin": 3, "write": 2, "read": 1, "none": 0}[level]
    flags = {"pull": held > 0, "triage": held > 1, "push": held > 1, "maintain": held > 2, "admin": held > 2}
    user = {**shapes.account(op.at, who), "permissions": flags, "role_name": role or "none"}
    return Answer(200, {"permission": level, "user": user, "role_name": role or "none"})


@route("GET", f"{ONE}/pulls", "pull_requests:read")
def list_pulls(op: Op) -> Answer:
    state, head, base = (op.query.get(name, "") for name in ("state", "head", "base"))
    found = [
        issue
        for issue in op.repo.pulls
        if (state == "all" or issue.state == (state or "open"))
        and (not base or (issue.pull and issue.pull.base_ref == base))
        and (not head or (issue.pull and issue.pull.head_label == head))
    ]
    by_update = op.query.get("sort") == "updated"
    newest_first = op.query.get("direction", "desc" if op.query.get("sort", "created") == "created" else "asc")
    found.sort(key=lambda issue: (issue.updated_at if by_update else issue.created_at, issue.number))
    if newest_first == "desc":
        found.reverse()
    return paged(op, [shapes_work.pull(op.at, op.repo, issue) for issue in found])


def pull_of(op: Op) -> Issue:
    issue = op.repo.issues.get(op.number("pull_number"))
    if issue is None or issue.pull is None:
        raise NotFound
    return issue


@route("GET", f"{ONE}/pulls/{{pull_number}}/files", "pull_requests:read")
def pull_files(op: Op) -> Answer:
    found = pull_of(op).pull
    assert found is not None
    base = git_store.merge_base(op.repo.path, found.base_sha, found.head_sha)
    changes = git_store.diff(op.repo.path, base, found.head_sha)[:3000] if base else []
    return paged(op, [shapes.file_change(op.at, op.repo, found.head_sha, change) for change in changes])


@route("GET", f"{ONE}/pulls/{{pull_number}}", "pull_requests:read")
def get_pull(op: Op) -> Answer:
    issue = pull_of(op)
    return Answer(200, shapes_work.pull(op.at, op.repo, issue, events.pull_numbers(op.repo, issue)))


def get_commit(op: Op) -> Answer:
    """Entered in the table last (`rest_checks`): its address is the beginning of others'."""
    return Answer(200, _commit(op, commit_of(op, op.params["ref"]), whole=True))
