"""REST: issues, their comments and reactions. Pull requests are issues here, as at GitHub."""

from __future__ import annotations

from fake_github import events, limits, shapes_work
from fake_github.rest_repos import ONE
from fake_github.routing import NotFound, Op, Unprocessable, paged, route
from fake_github.state import Comment, Issue, Reaction, iso
from fake_github.wire import Answer

_WRITE = ("issues:write", "pull_requests:write")
_READ = ("issues:read", "pull_requests:read")


def _issue(op: Op) -> Issue:
    issue = op.repo.issues.get(op.number("issue_number"))
    if issue is None:
        raise NotFound
    return issue


@route("GET", f"{ONE}/issues/{{issue_number}}/comments", *_READ)
def list_comments(op: Op) -> Answer:
    issue, since = _issue(op), op.query.get("since", "")
    found = [
        comment
        for comment in op.repo.comments.values()
        if comment.number == issue.number and (iso(comment.updated_at) or "") >= since
    ]
    return paged(op, [shapes_work.comment(op.at, comment) for comment in found])


@route("GET", f"{ONE}/issues/comments", *_READ)
def list_repo_comments(op: Op) -> Answer:
    """Of all issues; `since` is about changes, the order about `sort`."""
    since, by_change = op.query.get("since", ""), op.query.get("sort") == "updated"
    found = [comment for comment in op.repo.comments.values() if (iso(comment.updated_at) or "") >= since]
    found.sort(
        key=lambda comment: (comment.updated_at if by_change else comment.created_at, comment.id),
        reverse=op.query.get("direction") == "desc",
    )
    return paged(op, [shapes_work.comment(op.at, comment) for comment in found])


@route("POST", f"{ONE}/issues/{{issue_number}}/comments", *_WRITE)
def create_comment(op: Op) -> Answer:
    issue = _issue(op)
    body = limits.check_body(op.body or {}, "IssueComment")
    now = op.world.clock()
    comment = Comment(op.world.new_id(), op.repo, issue.number, op.caller.who, body, now, now, op.caller.through)
    op.repo.comments[comment.id] = comment
    issue.updated_at = max(issue.updated_at, now)
    events.issue_comment(op.world, comment, "created", op.caller.who)
    return Answer(201, shapes_work.comment(op.at, comment))


def _comment(op: Op) -> Comment:
    comment = op.repo.comments.get(op.number("comment_id"))
    if comment is None:
        raise NotFound
    return comment


@route("GET", f"{ONE}/issues/comments/{{comment_id}}", *_READ)
def get_comment(op: Op) -> Answer:
    return Answer(200, shapes_work.comment(op.at, _comment(op)))


@route("PATCH", f"{ONE}/issues/comments/{{comment_id}}", *_WRITE)
def update_comment(op: Op) -> Answer:
    comment = _comment(op)
    body = limits.check_body(op.body or {}, "IssueComment")
    before = comment.body
    comment.body, comment.updated_at, comment.edits = body, op.world.clock(), comment.edits + 1
    if before != body:
        events.issue_comment(op.world, comment, "edited", op.caller.who, changes={"body": {"from": before}})
    return Answer(200, shapes_work.comment(op.at, comment))


@route("POST", f"{ONE}/issues/comments/{{comment_id}}/reactions", *_WRITE)
def react(op: Op) -> Answer:
    comment = _comment(op)
    content = (op.body or {}).get("content")
    if content not in shapes_work.REACTIONS:
        raise Unprocessable("Validation Failed", f"content {content!r} is no reaction")
    for known in comment.reactions:
        if known.content == content and known.account == op.caller.who:
            return Answer(200, shapes_work.reaction(op.at, known))
    made = Reaction(op.world.new_id(), content, op.caller.who, op.world.clock())
    comment.reactions.append(made)
    return Answer(201, shapes_work.reaction(op.at, made))


@route("GET", f"{ONE}/issues", "issues:read")
def list_issues(op: Op) -> Answer:
    state = op.query.get("state", "open")
    labels = {name for name in op.query.get("labels", "").split(",") if name}
    creator = op.query.get("creator")
    found = [
        issue
        for issue in op.repo.issues.values()
        if state in ("all", issue.state) and labels <= set(issue.labels) and creator in (None, issue.author.login)
    ]
    found.sort(key=lambda issue: issue.number, reverse=op.query.get("direction", "desc") == "desc")
    return paged(op, [shapes_work.issue(op.at, op.repo, issue) for issue in found])


@route("GET", f"{ONE}/issues/{{issue_number}}", *_READ)
def get_issue(op: Op) -> Answer:
    return Answer(200, shapes_work.issue(op.at, op.repo, _issue(op)))


@route("POST", f"{ONE}/issues", "issues:write")
def create_issue(op: Op) -> Answer:
    body = op.body or {}
    if not str(body.get("title") or "").strip():
        raise Unprocessable("Validation Failed", "title is missing")
    text = limits.check_body(body, "Issue") if body.get("body") else None
    now = op.world.clock()
    op.repo.numbers += 1
    issue = Issue(
        op.world.new_id(), op.repo.numbers, str(body["title"]), text, op.caller.who, now, now,
        labels=_labels(body.get("labels")), app=op.caller.through,
    )  # fmt: skip
    op.repo.issues[issue.number] = issue
    events.issues(op.world, op.repo, issue, "opened", op.caller.who)
    return Answer(201, shapes_work.issue(op.at, op.repo, issue))


@route("PATCH", f"{ONE}/issues/{{issue_number}}", *_WRITE)
def update_issue(op: Op) -> Answer:
    """Too long a body answers 200 and keeps the old text, as GitHub was seen to do."""
    issue, body, now = _issue(op), op.body or {}, op.world.clock()
    state = body.get("state", issue.state)
    if state not in ("open", "closed"):
        raise Unprocessable("Validation Failed", f"state {state!r}")
    if len((body.get("body") or "").encode()) <= limits.COMMENT:
        issue.body = body.get("body", issue.body)
    issue.title = str(body.get("title") or issue.title)
    issue.labels = _labels(body["labels"]) if "labels" in body else issue.labels
    changed, issue.state = state != issue.state, state
    issue.closed_at = now if state == "closed" else None
    issue.updated_at, issue.edits = now, issue.edits + 1
    events.issues(op.world, op.repo, issue, _word(changed, state), op.caller.who)
    return Answer(200, shapes_work.issue(op.at, op.repo, issue))


def _word(changed: bool, state: str) -> str:
    if not changed:
        return "edited"
    return "closed" if state == "closed" else "reopened"


def _labels(given: object) -> list[str]:
    names = given if isinstance(given, list) else []
    return [str(name["name"] if isinstance(name, dict) else name) for name in names]
