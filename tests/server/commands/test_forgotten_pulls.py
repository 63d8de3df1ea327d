"""Pruning forgets pull requests closed long ago, and commits that nothing runs on; nothing is done again for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_scene import WRITER, Talk, talk
from joined_github import REPO, Joined, joined, workflows
from served_api import wait_for
from sqlmodel import SQLModel, col, func, select

from dstack.server.models import Approval, Command, Delivery, ForgeReport, NotNeeded, PullRequest
from dstack.server.services.prune import prune
from dstack.wire.api import PruneRequest

DAY = 86_400.0


def pruned(scene: Joined, days: int) -> None:
    prune(scene.api.wiring, PruneRequest(days=days, dry_run=False))


def rows(scene: Joined, table: type[SQLModel], *where: Any) -> int:
    return scene.api.wiring.db.read(lambda s: s.exec(select(func.count()).select_from(table).where(*where)).one())


def closed(scene: Talk, comment: str) -> int:
    """A pull request in which somebody said this and was answered; closed, which stopped its run."""
    told = scene.say(comment)
    scene.reply(told)
    scene.fake.close_pull(REPO, scene.number)
    scene.settle()
    assert [str(run.state) for run in scene.mine()] == ["stopped"]
    about = {f"1:{told}", f"1:{scene.number}"}
    marks = ("reply", "reaction", "comment")
    wait_for(lambda: not [mark for kind in marks for mark in scene.marks(kind) if mark.target in about])
    return told


def test_what_was_said_in_a_pull_request_goes_with_it(tmp_path: Path) -> None:
    with talk(tmp_path) as served:
        scene, still_open = served.fresh(), served.fresh()
        closed(scene, "/dstack status")
        kept = still_open.say("/dstack help")
        still_open.reply(kept)
        about = {"repo_id": 1, "number": scene.number, "sha": scene.sha, "base_branch": "main"}
        approval = Approval(**about, approved_by=WRITER, created_at=1)
        scene.api.wiring.db.write(lambda s: s.add(approval))
        of_mine = col(ForgeReport.target) == str(scene.number)
        assert rows(scene, Command) == 2 and rows(scene, ForgeReport, ForgeReport.kind == "comment", of_mine) == 1
        scene.api.clock.ahead += 20 * DAY
        pruned(scene, 30)
        assert rows(scene, Command) == 2 and rows(scene, PullRequest) == 2
        scene.api.clock.ahead += 20 * DAY
        pruned(scene, 30)
        assert rows(scene, PullRequest, PullRequest.number == scene.number) == 0
        assert rows(scene, Command, Command.number == scene.number) == 0 and rows(scene, Approval) == 0
        assert rows(scene, ForgeReport, ForgeReport.kind == "comment", of_mine) == 0
        # What is open stays, and knows what was said in it.
        assert rows(scene, PullRequest) == 1 and rows(scene, Command, Command.comment_id == kept) == 1
        reports = col(ForgeReport.kind).in_(["reply", "reaction"])
        assert rows(scene, ForgeReport, reports) == 2
        # Opened again it is as new, and its one comment is found.
        scene.fake.reopen(REPO, scene.number)
        scene.settle()
        wait_for(lambda: scene.mine() and rows(scene, ForgeReport, ForgeReport.kind == "comment", of_mine))
        assert sum("dstack:pull" in comment.body for comment in scene.fake.comments(REPO, scene.number)) == 1


def test_what_github_may_tell_again_is_known_whatever_is_pruned(tmp_path: Path) -> None:
    with talk(tmp_path) as served:
        scene = served.fresh()
        comment = closed(scene, "/dstack status")
        (sent,) = [d for d in scene.fake.webhooks.deliveries(scene.app) if d.guid == scene.told(comment).guid]
        scene.api.clock.ahead += 7 * DAY
        pruned(scene, 0)
        assert scene.mine() == [] and rows(scene, Command) == 1
        before = rows(scene, Delivery)
        scene.fake.webhooks.redeliver(sent)
        scene.settle()
        assert rows(scene, Delivery) == before
        scene.api.clock.ahead += 2 * DAY
        pruned(scene, 0)
        assert rows(scene, Command) == 0 and rows(scene, Delivery, Delivery.kind == "github") == 0


def test_notes_of_commits_that_nothing_runs_on_go_but_of_heads(tmp_path: Path) -> None:
    with joined(tmp_path, workflows(train="{push: {paths: ['*.py']}}"), github_write_gap_s=0) as scene:

        def told(sha: str) -> int:
            at = col(ForgeReport.target).startswith(sha)
            return rows(scene, ForgeReport, ForgeReport.kind == "status", at)

        shas = [scene.fake.push(REPO, "main", {"notes.txt": str(number)}) for number in range(3)]
        scene.settle()
        wait_for(lambda: all(told(sha) for sha in shas))
        scene.api.clock.ahead += 40 * DAY
        pruned(scene, 30)
        left = [sha for sha in shas if rows(scene, NotNeeded, NotNeeded.sha == sha)]
        assert left == [sha for sha in shas if told(sha)] == shas[-1:], "what main is at may be asked for again"
