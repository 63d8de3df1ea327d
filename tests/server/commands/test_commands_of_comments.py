"""Commands in comments of pull requests, from the webhook to the reaction, the runs and the reply."""

from __future__ import annotations

from command_scene import PROGRAM, READER, STRANGER, WRITER, Talk
from joined_github import REPO
from sqlmodel import Session

from dstack.server.decide.states import Event
from dstack.server.models import Run
from dstack.server.store.jobs import jobs_of_run
from dstack.server.transitions.jobs import move_job
from dstack.wire.states import JobState


def test_a_workflows_own_word_runs_it_with_its_variables(scene: Talk) -> None:
    comment = scene.say("Let us see.\n\n/train --lr 3e-4")
    assert scene.reactions(comment, "rocket") == ["eyes", "rocket"]
    prepare, train = scene.commented()
    assert (prepare.workflow, train.workflow) == ("prepare", "train")
    assert train.variables == {"lr": "3e-4", "note": "hello"}
    assert (train.sha, train.pull_request, train.created_by) == (scene.sha, scene.number, WRITER)
    assert train.trusted and not train.is_clean and not train.is_held
    assert scene.replies(comment) == []


def test_somebody_who_may_only_read_starts_nothing_and_learns_nothing(scene: Talk) -> None:
    comment = scene.say("/train", READER)
    assert scene.reactions(comment, "-1") == ["-1"]
    assert scene.commented() == []
    assert scene.replies(comment) == []


def test_a_stranger_and_a_program_start_nothing(scene: Talk) -> None:
    comment = scene.say("/dstack help\n/train", STRANGER)
    assert scene.reactions(comment, "-1") == ["-1"]
    by_program = scene.say("/train", PROGRAM)
    assert scene.told(by_program).state == "ignored"
    assert scene.fake.reactions(by_program) == [] and scene.commented() == []


def test_a_reader_may_ask(scene: Talk) -> None:
    comment = scene.say("/dstack help\n/dstack status\n/dstack plan\n/train", READER)
    assert scene.reactions(comment, "-1") == ["eyes", "-1"]
    text = scene.reply(comment)
    assert "| train | `/train` |" in text and "--lr 0.01" in text and "Train it" in text
    assert "| check |" in text  # it runs since the pull request was opened
    assert "| check | starts |" in text and "| tagged | no |" in text
    assert "/train`:" not in text  # what was refused is not spoken of
    assert scene.commented() == []


def test_edited_and_deleted_comments_do_nothing(scene: Talk) -> None:
    comment = scene.say("hello")
    scene.fake.edit_comment(comment, "/train")
    scene.settle()
    scene.fake.edit_comment(comment, "/train", by="mallory")
    scene.settle()
    assert scene.commented() == [] and scene.fake.reactions(comment) == []


def test_the_head_moved_after_the_comment_was_made(scene: Talk) -> None:
    """The comment arrives first; when the forge is asked, another commit is the head."""
    scene.fake.webhooks.hold()
    comment = scene.fake.comment(REPO, scene.number, WRITER, "/train")
    moved = scene.fake.push_pull(REPO, scene.number, {"train.py": "print('mine')\n"}, author="mallory")
    scene.fake.webhooks.release()
    scene.settle()
    assert scene.reactions(comment, "confused") == ["eyes", "confused"]
    text = scene.reply(comment)
    assert f"head moved to {moved[:7]}, nothing was run" in text and "comment again" in text
    assert scene.commented() == []


def test_the_head_moved_and_was_heard_of_before_an_older_comment(scene: Talk) -> None:
    scene.fake.push_pull(REPO, scene.number, {"train.py": "print('mine')\n"})
    scene.settle()
    comment = scene.say("/train", created_at=scene.fake.clock() - 60)
    scene.reactions(comment, "confused")
    assert "head moved to" in scene.reply(comment) and scene.commented() == []
    again = scene.say("/train", created_at=scene.fake.clock() + 1)
    scene.reactions(again, "rocket")
    assert len(scene.commented()) == 2


def test_a_server_whose_clock_is_slow_does_not_take_a_push_for_older_than_it_is(scene: Talk) -> None:
    clock = scene.api.clock
    clock.ahead -= 300
    try:
        moved = scene.fake.push_pull(REPO, scene.number, {"train.py": "print('mine')\n"})
        scene.settle()
        comment = scene.say("/train", created_at=scene.fake.clock() - 60)
    finally:
        clock.ahead += 300
    assert f"head moved to {moved[:7]}" in scene.reply(comment) and scene.commented() == []


def test_the_head_moved_in_the_very_second_of_the_comment(scene: Talk) -> None:
    moved = scene.fake.push_pull(REPO, scene.number, {"train.py": "print('mine')\n"})
    scene.settle()
    at = scene.pull(scene.number).head_at
    comment = scene.say("/train", created_at=at)
    scene.reactions(comment, "confused")
    assert f"head moved to {moved[:7]}" in scene.reply(comment) and "comment again" in scene.reply(comment)
    again = scene.say("/train", created_at=at + 1)
    scene.reactions(again, "rocket")
    assert {run.sha for run in scene.commented()} == {moved}


def test_a_pull_request_may_be_opened_with_a_command(scene: Talk) -> None:
    """In the same second: no other head was there to be meant."""
    comment = scene.say("/train", created_at=scene.pull(scene.number).head_at)
    scene.reactions(comment, "rocket")
    assert len(scene.commented()) == 2


def test_a_push_that_was_never_heard_of_is_not_run_by_an_older_comment(scene: Talk) -> None:
    scene.fake.webhooks.drop_all()
    moved = scene.fake.push_pull(REPO, scene.number, {"train.py": "print('mine')\n"})
    scene.fake.webhooks.heal()
    comment = scene.say("/train")
    scene.reactions(comment, "confused")
    assert moved[:7] in scene.reply(comment) and scene.commented() == []
    again = scene.say("/train", created_at=scene.fake.clock() + 1)  # now it is known what the head is
    scene.reactions(again, "rocket")
    assert {run.sha for run in scene.commented()} == {moved}


def test_a_delivery_that_comes_twice_makes_nothing_twice(scene: Talk) -> None:
    scene.fake.webhooks.double()
    comment = scene.say("/train\n/dstack help")
    scene.fake.webhooks.heal()
    scene.reactions(comment, "rocket")
    scene.reply(comment)
    (sent,) = {d.guid: d for d in scene.fake.webhooks.log if d.event == "issue_comment" and d.action == "created"
               and d.payload["comment"]["id"] == comment}.values()  # fmt: skip
    scene.fake.send_raw("issue_comment", sent.payload)  # the same comment under another id, as a replay has
    scene.settle()
    assert len(scene.commented()) == 2
    assert len(scene.replies(comment)) == 1
    assert scene.fake.reactions(comment) == ["eyes", "rocket"]


def test_of_a_thousand_commands_five_are_done(scene: Talk) -> None:
    comment = scene.say("/train --lr 1\n" * 1000)
    scene.reactions(comment, "confused")
    assert len(scene.commented()) == 10  # and what each needs
    assert "Only the first 5 commands of a comment are done; the other 995 were left." in scene.reply(comment)


def test_what_is_wrong_is_answered_in_one_harmless_reply(scene: Talk) -> None:
    said = [
        "/dstack rnu train",
        "/dstack run trian",
        "/train --lrr 3",
        "/dstack run train --note '@all fixes #1",
        "/dstack run '@everyone fixes #1 <img src=x>'",
    ]
    comment = scene.say("\n".join(said))
    scene.reactions(comment, "confused")
    text = scene.reply(comment)
    for expected in ("Did you mean", "It has: check, prepare, tagged, train", "--lr (0.01)", "quote is not closed"):
        assert expected in text
    assert "@all" not in text and "@everyone" not in text and "fixes #1" not in text and "<img" not in text
    assert not any(line.lstrip().startswith("/") for line in text.splitlines())
    assert scene.commented() == []


def test_words_stay_literal(scene: Talk) -> None:
    comment = scene.say("/train --note '$(id) `id` *' --lr=@/etc/passwd")
    scene.reactions(comment, "rocket")
    assert scene.commented()[-1].variables == {"lr": "@/etc/passwd", "note": "$(id) `id` *"}


def test_commands_of_other_programs_are_left_alone(scene: Talk) -> None:
    comment = scene.say("/lgtm\n/assign somebody\n`/train`\n> /train")
    assert scene.told(comment).reason == "it holds no command"
    assert scene.fake.reactions(comment) == [] and scene.replies(comment) == []


def test_issues_and_closed_pull_requests_are_told_once(scene: Talk) -> None:
    issue = scene.fake.open_issue(REPO, "Slow")
    on_issue = scene.say("/dstack run train\n/dstack help", number=issue)
    scene.reactions(on_issue, "confused")
    assert "open pull requests only" in scene.reply(on_issue, number=issue)
    scene.fake.close_pull(REPO, scene.number)
    scene.settle()
    on_closed = scene.say("/train")
    scene.reactions(on_closed, "confused")
    assert "open pull requests only" in scene.reply(on_closed)
    assert scene.commented() == []


def test_a_word_that_this_commit_does_not_have_is_answered_with_those_it_has(scene: Talk) -> None:
    workflows = "workflows:\n  - {name: eval, provider: bash, commands: ls, on: {comment: /eval}}\n"
    files = {".dstack/workflows.yaml": workflows, ".dstack/variables.yaml": "variables: {}\n"}
    scene.fake.push_pull(REPO, scene.number, files)
    scene.settle()
    comment = scene.say("/train", created_at=scene.fake.clock() + 1)
    scene.reactions(comment, "confused")
    assert "Commands of its workflows: /eval" in scene.reply(comment)


def test_problems_of_the_files_are_told(scene: Talk) -> None:
    scene.fake.push_pull(REPO, scene.number, {".dstack/workflows.yaml": "workflows:\n  - {name: a, provdier: bash}\n"})
    scene.settle()
    comment = scene.say("/dstack run a", created_at=scene.fake.clock() + 1)
    scene.reactions(comment, "confused")
    assert ".dstack/workflows.yaml:2:" in scene.reply(comment)


def test_stop_retry_tag_and_status(scene: Talk) -> None:
    scene.reactions(scene.say("/train"), "rocket")
    prepare, train = scene.commented()
    stopped = scene.say("/dstack stop")
    scene.reactions(stopped, "rocket")
    assert {run.state for run in scene.mine()} == {"stopped"}
    assert all(run.message == WRITER for run in scene.commented())
    again = scene.say("/dstack stop")
    scene.reactions(again, "confused")
    assert "runs or waits" in scene.reply(again)
    nothing = scene.say("/dstack retry")
    scene.reactions(nothing, "confused")
    assert "no run has failed" in scene.reply(nothing)
    named = scene.say(f"/dstack retry {prepare.name}")
    scene.reactions(named, "rocket")
    assert scene.mine()[-1].restarted_from == prepare.name
    tag = scene.say(f"/dstack tag {train.name} prod")
    scene.reactions(tag, "confused")
    assert "only a succeeded run can carry a tag" in scene.reply(tag)
    status = scene.say("/dstack status", READER)
    text = scene.reply(status)
    assert f"[{train.name}](" in text and "stopped" in text and "queued" in text


def test_runs_of_another_repository_are_not_there(scene: Talk) -> None:
    other = scene.api.run()  # in a repository of our own remote
    comment = scene.say(f"/dstack stop {other}\n/dstack tag {other} x\n/dstack retry {other}")
    scene.reactions(comment, "confused")
    assert scene.reply(comment).count("has no run") == 3
    assert scene.api.get_run(other)["state"] == "queued"


def test_runs_of_another_pull_request_are_not_this_ones(scene: Talk) -> None:
    other = scene.fresh()
    (theirs,), (mine,) = other.mine(), scene.mine()
    comment = scene.say(f"/dstack stop {theirs.name}\n/dstack tag {theirs.name} x\n/dstack retry {theirs.name}")
    scene.reactions(comment, "confused")
    said = scene.reply(comment)
    assert said.count(f"{theirs.name} is no run of ") == 3 and said.count(f"Those are: {mine.name}.") == 3
    assert scene.api.get_run(theirs.name)["state"] == "queued" and len(scene.mine()) == 1


def test_a_tag_may_be_put_on_the_run_whose_result_was_taken_over(scene: Talk) -> None:
    """It is the one that the pull request names: `same as ...`."""
    (did,) = scene.mine()
    succeed(scene, did)
    other = scene.fresh()
    scene.fake.force_push(REPO, scene.pull(other.number).head_branch, scene.sha)
    scene.settle()
    assert other.mine()[-1].adopted_id == did.id
    comment = other.say(f"/dstack tag {did.name} best\n/dstack stop {did.name}")
    assert other.reply(comment).count(f"{did.name} is no run of ") == 1  # stopping it would be another's business
    (tag,) = scene.api.ok("GET", f"/api/v1/tags?repo={REPO}")
    assert (tag["tag"], tag["run"]) == ("check:best", did.name)


def succeed(scene: Talk, run: Run) -> None:
    def unit(session: Session) -> None:
        (job,) = jobs_of_run(session, run.id or 0)
        job.state = JobState.SAVING
        move_job(session, job, Event.SUCCEED, now=scene.api.wiring.clock.now())

    scene.api.wiring.db.write(unit)


def test_a_run_that_never_began_is_told_of(scene: Talk) -> None:
    comment = scene.say("/dstack run tagged")
    scene.reactions(comment, "rocket")
    text = scene.reply(comment)
    assert "there is no tag prepare:latest" in text and "❌ failed" in text


def test_a_plan_says_what_would_run_and_starts_nothing(scene: Talk) -> None:
    comment = scene.say("/dstack plan train --lr 7\n/dstack plan train --lrr 7")
    scene.reactions(comment, "confused")
    text = scene.reply(comment)
    assert "| 1 | prepare |" in text and "| 2 | train |" in text and "lr=7" in text and "`prepare`" in text
    assert "--lrr" in text and scene.commented() == []
