"""Commands while GitHub does not answer, and after a crash half-way."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from command_scene import WRITER, Talk, talk
from joined_github import REPO
from served_api import unique, wait_for
from sqlmodel import Session

from dstack.server.models.delivery import DeliveryState
from dstack.server.report.replies import Answer
from dstack.server.services.record_command import record_answer, take_command
from dstack.server.store.commands import command_of_comment
from dstack.server.store.outbox import REPLY, mark_outdated
from dstack.server.store.reports import parked


@pytest.fixture(autouse=True)
def healed(server: Talk) -> None:
    server.fake.faults.clear()


def test_who_may_is_asked_again_while_github_is_away(scene: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is allowed to do anything meanwhile, and nothing is lost."""
    monkeypatch.setattr("dstack.server.lanes._AGAIN_AT_FORGE_S", (0.1, 1.0))
    scene.fake.faults.error(503, f"/collaborators/{WRITER}/permission", count=2)
    comment = scene.say("/train")
    assert scene.reactions(comment, "rocket") == ["eyes", "rocket"]
    assert len(scene.commented()) == 2
    assert [name for name, _, path in scene.fake.faults.played if WRITER in path][-2:] == ["error 503"] * 2


def test_a_permission_that_github_does_not_tell_is_none(scene: Talk) -> None:
    who = unique("walt")
    scene.fake.set_permission(REPO, who, "write")
    scene.fake.faults.error(403, f"/collaborators/{who}/permission")
    comment = scene.say("/train", who)
    assert scene.reactions(comment, "-1") == ["-1"] and scene.commented() == []


def test_what_github_refuses_every_time_is_answered(scene: Talk) -> None:
    scene.fake.faults.error(403, f"/pulls/{scene.number}$", count=3)
    comment = scene.say("/train")
    assert scene.reactions(comment, "confused") == ["eyes", "confused"]
    said = scene.reply(comment)
    assert "Could not be done: GitHub answered 403 to GET" in said and "Comment again once that is mended." in said
    assert "lacks a permission" in said and scene.commented() == []
    assert (scene.told(comment).state, scene.told(comment).tries) == (DeliveryState.FAILED, 3)


def test_the_first_reaction_does_not_wait_for_the_rest(scene: Talk) -> None:
    scene.fake.faults.hang(2, f"/pulls/{scene.number}$")
    comment = scene.fake.comment(REPO, scene.number, WRITER, "/train")
    wait_for(lambda: scene.fake.reactions(comment) == ["eyes"], 1.9)
    scene.settle()
    assert scene.reactions(comment, "rocket") == ["eyes", "rocket"]


def test_a_reply_whose_answer_was_lost_is_not_made_twice(scene: Talk) -> None:
    scene.fake.faults.lose_answer(f"/issues/{scene.number}/comments", method="POST")
    comment = scene.say("/dstack help")
    scene.reply(comment)
    scene.reactions(comment, "rocket")
    wait_for(lambda: not scene.marks("reply"))
    assert len(scene.replies(comment)) == 1


def test_a_command_with_an_answer_is_not_done_again(scene: Talk) -> None:
    """As after a crash between the first and the second command of a comment."""
    repo = scene.repo()
    assert repo is not None
    scene.fake.webhooks.hold()
    comment = scene.fake.comment(REPO, scene.number, WRITER, "/train --lr 1\n/train --lr 2")

    def crashed(session: Session) -> None:
        now = scene.api.clock.now()
        command = take_command(session, repo.id or 0, scene.number, comment, author=WRITER, reaction="eyes", now=now)
        record_answer(session, command.id or 0, Answer("/train --lr 1", True, is_told=False).as_data())

    scene.api.wiring.db.write(crashed)
    scene.fake.webhooks.release()
    scene.settle()
    scene.reactions(comment, "rocket")
    assert [run.variables["lr"] for run in scene.commented() if run.workflow == "train"] == ["2"]


def test_a_comment_that_was_deleted_meanwhile_is_no_problem(scene: Talk) -> None:
    scene.fake.faults.hang(0.5, f"/pulls/{scene.number}$")
    comment = scene.fake.comment(REPO, scene.number, WRITER, "/train")
    wait_for(lambda: scene.fake.reactions(comment) == ["eyes"])
    scene.fake.delete_comment(comment)
    scene.settle()
    wait_for(lambda: not scene.marks("reaction"))
    assert scene.api.wiring.db.read(parked) == []
    assert len(scene.commented()) == 2


def test_a_reply_that_somebody_deleted_stays_away(scene: Talk) -> None:
    comment = scene.say("/dstack run tagged")
    marker = f"dstack:reply:{comment}"
    scene.reply(comment)
    (ours,) = [c for c in scene.fake.comments(REPO, scene.number) if marker in c.body]
    scene.fake.delete_comment(ours.id)
    scene.settle()
    repo = scene.repo()
    assert repo is not None
    scene.api.wiring.db.write(lambda s: change_reply(s, repo.id or 0, comment))
    wait_for(lambda: not scene.marks("reply"))
    assert scene.replies(comment) == [] and scene.api.wiring.db.read(parked) == []


def change_reply(session: Session, repo_id: int, comment: int) -> None:
    command = command_of_comment(session, repo_id, comment)
    assert command is not None
    record_answer(session, command.id or 0, Answer("/dstack help", True, "more").as_data())
    mark_outdated(session, REPLY, f"{repo_id}:{comment}", 0)


def test_somebody_whose_account_is_gone_gives_no_commands(scene: Talk) -> None:
    scene.fake.webhooks.drop()
    comment = scene.fake.comment(REPO, scene.number, WRITER, "/train")
    payload = events_payload(scene, comment)
    payload["comment"]["user"] = None
    scene.fake.send_raw("issue_comment", payload)
    scene.settle()
    assert scene.told(comment).reason == "its author is gone"
    assert scene.fake.reactions(comment) == [] and scene.commented() == []


def events_payload(scene: Talk, comment: int) -> dict[str, Any]:
    """The payload of another comment, as if it were of this one."""
    other = scene.say("hello")
    (sent,) = [d for d in scene.fake.webhooks.log if d.event == "issue_comment" and d.payload["comment"]["id"] == other]
    payload: dict[str, Any] = copy.deepcopy(sent.payload)
    payload["comment"] |= {"id": comment, "body": "/train"}
    return payload


def test_a_pull_request_that_nobody_heard_of_is_looked_up(tmp_path: Path) -> None:
    """The App was installed when it was there already: a comment is the first news of all."""
    with talk(tmp_path) as scene:
        scene.fake.webhooks.drop_all()
        unheard = scene.fresh()
        scene.fake.webhooks.heal()
        comment = unheard.say("/train", created_at=scene.fake.clock() + 1)
        unheard.reactions(comment, "rocket")
        assert {run.sha for run in unheard.commented()} == {unheard.sha}


def test_a_reader_who_asks_again_and_again_is_answered_so_often_and_no_more(
    scene: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dstack.server.handlers.comment.MOST_AN_HOUR", 2)
    who = unique("nosy")
    scene.fake.set_permission(REPO, who, "read")
    asked = [scene.say("/dstack status", who) for _ in range(4)]
    for comment in asked[:2]:
        scene.reactions(comment, "rocket")
    assert "asked 2 times" in scene.told(asked[2]).reason and "asked 2 times" in scene.told(asked[3]).reason
    wait_for(lambda: not scene.marks(REPLY))
    assert [len(scene.replies(comment)) for comment in asked] == [1, 1, 0, 0]
    assert [scene.fake.reactions(comment) for comment in asked[2:]] == [[], []]
    scene.reactions(scene.say("/dstack status"), "rocket")  # who may write is never counted
