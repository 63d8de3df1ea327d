"""What GitHub announces, read into data of ours: its own examples, small ones, and whatever else may come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.errors import Malformed
from dstack.server.forge_events import (
    CheckRunEvent,
    Event,
    InstallationEvent,
    IssueComment,
    MergeGroup,
    Other,
    PullRequestEvent,
    Push,
    read_data,
    read_event,
    why_own,
    why_unused,
)

ROOT = Path(__file__).parents[3]
PAYLOADS = ROOT / "tests" / "payloads"
GITHUBS_OWN = ROOT.parent / "shared" / "github" / "webhook-examples.json"
SMALL = {path.stem: json.loads(path.read_text()) for path in sorted(PAYLOADS.glob("*.json"))}


def own(name: str) -> Event:
    """One of our small examples, `EVENT-ACTION`."""
    return read_event(name.partition("-")[0], json.dumps(SMALL[name]).encode())


def examples() -> list[Any]:
    if not GITHUBS_OWN.exists():
        why = "GitHub's own examples do not lie beside the checkout"
        return [pytest.param("", {}, id="none", marks=pytest.mark.skip(reason=why))]
    found: dict[str, list[dict[str, Any]]] = json.loads(GITHUBS_OWN.read_text())
    return [
        pytest.param(event, data, id=f"{event}-{number}")
        for event, many in found.items()
        for number, data in enumerate(many)
    ]


@pytest.mark.parametrize(("event", "data"), examples())
def test_githubs_own_examples_are_read(event: str, data: dict[str, Any]) -> None:
    read = read_event(event, json.dumps(data).encode())
    origin = read.origin
    assert origin.event == event and origin.action == data.get("action", "")
    assert origin.sender == (data.get("sender") or {}).get("login", "")
    if data.get("repository"):
        assert origin.repo is not None and origin.repo.forge_id == str(data["repository"]["id"])
        assert origin.repo.full_name == data["repository"]["full_name"]
    assert isinstance(read, Other) == (bool(why_unused(read)) and not isinstance(read, PullRequestEvent))
    if isinstance(read, Push):
        assert (read.ref, read.after) == (data["ref"], data["after"])
    if isinstance(read, PullRequestEvent):
        assert read.pull.head_sha == data["pull_request"]["head"]["sha"] and read.pull.updated_at > 1e9
    if isinstance(read, IssueComment):
        assert read.comment_id == data["comment"]["id"] and read.body == data["comment"]["body"]


def test_each_event_that_counts_has_a_small_example() -> None:
    kinds = {type(own(name)).__name__ for name in SMALL}
    assert kinds == {
        "CheckRunEvent", "CheckSuiteEvent", "InstallationEvent", "InstallationRepositories", "IssueComment",
        "MergeGroup", "Ping", "PullRequestEvent", "Push", "RepositoryEvent",
    }  # fmt: skip


def test_a_push() -> None:
    push = own("push")
    assert isinstance(push, Push)
    assert (push.ref, push.before, push.after, push.commit) == ("refs/heads/main", "a" * 40, "b" * 40, "b" * 40)
    assert push.forced and push.origin.installation == 77 and push.origin.name == "push"


def test_a_pushed_tag_with_a_message_leads_to_its_commit() -> None:
    data = {**SMALL["push"], "ref": "refs/tags/v1", "after": "c" * 40, "head_commit": {"id": "d" * 40}}
    push = read_data("push", data)
    assert isinstance(push, Push) and (push.after, push.commit) == ("c" * 40, "d" * 40)
    gone = read_data("push", {**data, "after": "0" * 40, "head_commit": None})
    assert isinstance(gone, Push) and gone.commit == "0" * 40


def test_a_pull_request_from_a_fork_that_is_gone() -> None:
    event = own("pull_request-opened")
    assert isinstance(event, PullRequestEvent)
    assert (event.pull.is_fork, event.pull.head_repo, event.pull.author) == (True, "stranger/vision", "stranger")
    data = json.loads(json.dumps(SMALL["pull_request-opened"]))
    data["pull_request"]["head"]["repo"] = None
    data["pull_request"]["user"] = None
    gone = read_data("pull_request", data)
    assert isinstance(gone, PullRequestEvent)
    assert (gone.pull.is_fork, gone.pull.head_repo, gone.pull.author) == (True, "", "")
    data["pull_request"]["head"]["repo"] = data["pull_request"]["base"]["repo"]
    same = read_data("pull_request", data)
    assert isinstance(same, PullRequestEvent) and not same.pull.is_fork


def test_what_changed_of_an_edited_pull_request() -> None:
    moved = own("pull_request-edited")
    assert isinstance(moved, PullRequestEvent) and moved.old_base == "develop" and why_unused(moved) == ""
    words = read_data("pull_request", {**SMALL["pull_request-edited"], "changes": {"title": {"from": "x"}}})
    assert why_unused(words) == "only its text was edited"


def test_the_rest_of_the_small_examples() -> None:
    comment, group, check = own("issue_comment-created"), own("merge_group-checks_requested"), own("check_run-action")
    assert isinstance(comment, IssueComment) and comment.is_pull and comment.is_open and not comment.author_is_bot
    assert (comment.number, comment.comment_id, comment.author, comment.created_at) == (7, 99, "ada", 1767225600.0)
    assert isinstance(group, MergeGroup) and (group.base_branch, group.head_sha) == ("main", "b" * 40)
    assert isinstance(check, CheckRunEvent)
    assert (check.external_id, check.identifier, check.origin.app_id) == ("run:brave-otter-17", "tag-latest", 5)
    made = own("installation-created")
    assert isinstance(made, InstallationEvent)
    assert (made.installation.account, made.installation.suspended) == ("acme", False)
    assert made.installation.permissions == {"checks": "write", "metadata": "read"}
    assert [ref.full_name for ref in made.repos] == ["acme/vision"]


def test_our_own_doings_are_known_by_the_bots_name() -> None:
    data = {**SMALL["push"], "sender": {"login": "dstack[bot]", "type": "Bot"}}
    assert why_own(read_data("push", data), "dstack") and not why_own(read_data("push", data), "other")
    assert not why_own(read_data("push", data), "")
    person = {**data, "sender": {"login": "dstack[bot]", "type": "User"}}
    assert not why_own(read_data("push", person), "dstack")


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        ("push", ("ref",), None, "ref of the event is not text"),
        ("push", ("after",), 5, "after of the event is not text"),
        ("push", ("forced",), "yes", "forced of the event is not true or false"),
        ("push", ("repository", "id"), -1, "repository.id of the event is not a whole number"),
        ("push", ("repository", "id"), True, "repository.id of the event is not a whole number"),
        ("push", ("installation", "id"), 2**63, "installation.id of the event is not a whole number"),
        ("push", ("ref",), "refs/heads/a\0b", "ref of the event is not text that can be stored"),
        ("pull_request-opened", ("pull_request", "head", "sha"), [], "pull_request.head.sha of the event is not text"),
        ("pull_request-opened", ("pull_request", "base"), None, "pull_request.base of the event is not an object"),
        ("pull_request-opened", ("pull_request", "updated_at"), "soon", "pull_request.updated_at of the event is not"),
        ("issue_comment-created", ("comment", "id"), "1", "comment.id of the event is not a whole number"),
        ("installation-created", ("repositories",), {}, "repositories of the event is not a list"),
        ("installation-created", ("repositories",), [1], "repositories[0] of the event is not an object"),
    ],
)
def test_what_is_wrong_is_named(name: str, path: tuple[str, ...], value: object, said: str) -> None:
    data = json.loads(json.dumps(SMALL[name]))
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(Malformed) as caught:
        read_data(name.partition("-")[0], data)
    assert caught.value.message.startswith(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def bent(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """One of the small examples with some of its values replaced or taken out."""
    name = draw(st.sampled_from(sorted(SMALL)))
    data = json.loads(json.dumps(SMALL[name]))
    for _ in range(draw(st.integers(1, 3))):
        holder = data
        while isinstance(holder, dict) and holder:
            key = draw(st.sampled_from(sorted(holder)))
            if isinstance(holder[key], dict) and holder[key] and draw(st.booleans()):
                holder = holder[key]
                continue
            if draw(st.booleans()):
                holder[key] = draw(JSON)
            else:
                del holder[key]
            break
    return name.partition("-")[0], data


@settings(max_examples=400, deadline=None)
@given(bent())
def test_odd_fields_are_refused_in_words_or_read(given_event: tuple[str, dict[str, Any]]) -> None:
    event, data = given_event
    try:
        read = read_data(event, data)
    except Malformed as error:
        assert " of the event is " in error.message
    else:
        assert isinstance(why_unused(read), str)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["push", "ping", "pull_request", "x"]), st.binary(max_size=60) | JSON)
def test_no_body_whatever_breaks_the_reading(event: str, body: object) -> None:
    try:
        read_event(event, body if isinstance(body, bytes) else json.dumps(body).encode())
    except Malformed as error:
        assert error.message
