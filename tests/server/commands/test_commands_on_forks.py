"""Commands on pull requests of forks: nothing begins before its very commit is approved."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from command_scene import READER, WRITER, Talk
from joined_github import REPO
from served_api import unique

from dstack.git.run import git

EVIL = {".dstack/workflows.yaml": "workflows:\n  - {name: mine, provider: bash, commands: ls, on: {comment: /mine}}\n"}


@pytest.fixture
def fork(server: Talk) -> Talk:
    """At a pull request of a stranger's fork, which brings workflows of its own."""
    copy = server.fake.fork(REPO, unique("mallory"))
    owner = copy.owner.login
    sha = server.fake.push(copy, "main", {"train.py": "steal()\n", **EVIL}, author=owner)
    number = server.fake.open_pull(REPO, "main", title="Better", author=owner, head_repo=copy)
    server.settle()
    return replace(server, number=number, sha=sha)


def test_a_writers_command_on_a_fork_waits_for_the_approval_of_its_commit(fork: Talk) -> None:
    comment = fork.say("/train")
    fork.reactions(comment, "rocket")
    runs = fork.commented()
    assert [run.workflow for run in runs] == ["prepare", "train"]  # of the base branch's files, not of the fork's
    assert all(run.is_held and not run.trusted and run.sha == fork.sha for run in runs)
    assert f"waits for `/dstack approve {fork.sha[:7]}`" in fork.reply(comment)

    approved = fork.say(f"/dstack approve {fork.sha[:7]} 4gpu-h")
    fork.reactions(approved, "rocket")
    assert not any(run.is_held for run in fork.commented())
    assert "waits for `/dstack approve" not in fork.reply(comment, "queued")  # edited: no second one


def test_only_the_head_can_be_approved_and_only_by_who_may_write(fork: Talk) -> None:
    fork.reactions(fork.say("/train"), "rocket")
    by_reader = fork.say(f"/dstack approve {fork.sha[:7]}", READER)
    assert fork.reactions(by_reader, "-1") == ["-1"]
    by_author = fork.say(f"/dstack approve {fork.sha}", fork.pull(fork.number).author)
    assert fork.reactions(by_author, "-1") == ["-1"]
    other = fork.say("/dstack approve 1234567")
    fork.reactions(other, "confused")
    assert f"the head is {fork.sha[:7]}" in fork.reply(other)
    assert all(run.is_held for run in fork.commented())


def test_an_approval_of_what_was_the_head_lets_nothing_run(fork: Talk) -> None:
    """The webhook of the push is under way: the forge is asked."""
    fork.reactions(fork.say("/train"), "rocket")
    fork.fake.webhooks.drop_all()
    moved = fork.fake.push_pull(REPO, fork.number, {"train.py": "worse()\n"})
    fork.fake.webhooks.heal()
    late = fork.say(f"/dstack approve {fork.sha[:7]}")
    fork.reactions(late, "confused")
    assert f"the head is {moved[:7]}" in fork.reply(late)
    assert all(run.is_held for run in fork.commented())


def test_an_approval_is_for_the_branch_that_was_looked_at(fork: Talk) -> None:
    """Aimed elsewhere after the comment, whether the news of that are here already or under way; and in its second."""
    fork.fake.push(REPO, "release", {"r": unique("1")}, author=WRITER)
    fork.settle()
    before = fork.fake.clock() - 60
    fork.fake.edit_pull(REPO, fork.number, base="release")
    fork.settle()
    at = fork.pull(fork.number).base_at
    for said_at in (before, at):
        comment = fork.say(f"/dstack approve {fork.sha}", created_at=said_at)
        fork.reactions(comment, "confused")
        assert "goes to release now" in fork.reply(comment) and "comment again" in fork.reply(comment)
    fork.fake.webhooks.drop_all()
    fork.fake.edit_pull(REPO, fork.number, base="main")
    fork.fake.webhooks.heal()
    comment = fork.say(f"/dstack approve {fork.sha}", created_at=fork.fake.clock() + 1)
    fork.reactions(comment, "confused")
    assert "goes to main now" in fork.reply(comment)
    approved = fork.say(f"/dstack approve {fork.sha}", created_at=fork.fake.clock() + 5)
    fork.reactions(approved, "rocket")


def test_aimed_elsewhere_after_its_approval_it_waits_again(fork: Talk) -> None:
    fork.fake.push(REPO, "release", {"r": unique("1")}, author=WRITER)
    fork.settle()
    fork.reactions(fork.say(f"/dstack approve {fork.sha}"), "rocket")
    fork.fake.edit_pull(REPO, fork.number, base="release")
    fork.settle()
    fork.reactions(fork.say("/train", created_at=fork.fake.clock() + 1), "rocket")
    assert fork.commented() and all(run.is_held and run.base_branch == "release" for run in fork.commented())


def test_a_forks_own_words_are_no_commands(fork: Talk) -> None:
    comment = fork.say("/mine")
    assert fork.told(comment).state == "ignored" and fork.fake.reactions(comment) == []


def test_the_beginning_of_two_commits_approves_neither(fork: Talk) -> None:
    """Two that begin alike are found in a moment by whoever makes both."""
    copy = fork.fake.find_repo(f"{fork.pull(fork.number).author}/{REPO.partition('/')[2]}")
    assert copy is not None
    harmless, evil = _two_that_begin_alike(copy.path, fork.sha)
    for sha in (harmless, evil):
        fork.fake.force_push(copy, "main", sha)
        fork.settle()
    assert fork.pull(fork.number).head_sha == evil
    fork.reactions(fork.say("/train", created_at=fork.fake.clock() + 1), "rocket")
    short = fork.say(f"/dstack approve {harmless[:7]}")
    fork.reactions(short, "confused")
    assert f"more than one commit begins with {evil[:7]}" in fork.reply(short)
    assert all(run.is_held for run in fork.commented())
    fork.reactions(fork.say(f"/dstack approve {evil}"), "rocket")
    assert not any(run.is_held for run in fork.commented())


def _two_that_begin_alike(path: Path, parent: str) -> tuple[str, str]:
    tree = git(["rev-parse", f"{parent}^{{tree}}"], cwd=path).decode().strip()
    begin = f"tree {tree}\nparent {parent}\nauthor m <m@x.org> 1 +0000\ncommitter m <m@x.org> 1 +0000\n\n"
    seen: dict[str, bytes] = {}
    for number in count():
        body = f"{begin}{number}\n".encode()
        sha = hashlib.sha1(b"commit %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
        if other := seen.get(sha[:7]):
            first, second = (
                git(["hash-object", "-t", "commit", "-w", "--stdin"], cwd=path, stdin=one).decode().strip()
                for one in (other, body)
            )
            assert second == sha
            return first, second
        seen[sha[:7]] = body
    raise AssertionError("there are always two")
