"""A lane: who comes first, how fast, and what outages, limits and refusals lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from outbox_scene import REPO, Scene, play
from server_clock import FakeClock
from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.models import NotNeeded, OutboxMark, PullRequest, Repo
from dstack.server.outbox_sending import Sender
from dstack.server.services import send_checks, send_comments, send_statuses
from dstack.server.store.heads import note_head
from dstack.server.store.outbox import CHECK, COMMENT, ISSUE, REACTION, REPLY, STATUS, mark_outdated
from dstack.server.store.reports import note_refused, parked, unpark
from dstack.server.store.repos import repo_by_name
from dstack.server.timers.sync_installations import sync_installations
from dstack.server.wiring import Wiring

OURS = {STATUS: send_statuses.send, CHECK: send_checks.send, COMMENT: send_comments.send}


class Recorder:
    """Senders that write nothing but down who came when."""

    def __init__(self, scene: Scene, writes: int = 1) -> None:
        self.scene, self.writes = scene, writes
        self.seen: list[tuple[str, str, float]] = []
        self.after: Callable[[str, str], None] = lambda kind, target: None

    def senders(self, *kinds: str) -> dict[str, Sender]:
        return dict.fromkeys(kinds, self.send)

    def send(self, wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
        for _ in range(self.writes):
            yield lambda: self.note(mark)

    def note(self, mark: OutboxMark) -> None:
        self.seen.append((mark.kind, mark.target, self.scene.clock.now()))
        self.after(mark.kind, mark.target)

    @property
    def order(self) -> list[tuple[str, str]]:
        return [(kind, target) for kind, target, _ in self.seen]


def test_what_people_wait_for_comes_first_then_ends(scene: Scene) -> None:
    recorder = Recorder(scene)
    scene.use(recorder.senders(REACTION, REPLY, STATUS, CHECK, COMMENT, ISSUE))
    other = "b" * 40
    for kind, target in [(ISSUE, "1:train"), (COMMENT, "1:7"), (CHECK, "1:3"), (REPLY, "1:5"), (REACTION, "1:5")]:
        scene.mark(kind, target)
    scene.run(sha=other)
    ended = scene.run("lint")
    scene.begin(ended)
    scene.end(ended)
    scene.idle()
    kinds = [kind for kind, _ in recorder.order]
    assert kinds == [REACTION, REPLY, STATUS, STATUS, CHECK, CHECK, CHECK, COMMENT, ISSUE, ISSUE]
    assert [target for kind, target in recorder.order if kind == STATUS] == [f"1:{scene.sha}", f"1:{other}"]


def test_a_green_that_is_none_any_more_goes_before_all_other_statuses(scene: Scene) -> None:
    """A draft that is ready now, a result that is tried again: until it is told, somebody may merge by it."""
    done = scene.run("train")
    scene.begin(done)
    scene.end(done)
    scene.idle()
    assert scene.statuses()["dstack/train"][0] == "success"
    recorder = Recorder(scene)
    scene.use(recorder.senders(STATUS))
    running, ended = (scene.github.commit(REPO, "main", {"a": text}, text) for text in "12")
    scene.run("train", running)
    other = scene.run("train", ended)
    scene.begin(other)
    scene.end(other)
    scene.run("train")  # once more where it was green
    scene.idle()
    assert [target for _, target, _ in recorder.seen] == [f"1:{sha}" for sha in (scene.sha, ended, running)]


def test_so_does_a_green_that_another_commit_speaks_for(scene: Scene) -> None:
    done = scene.run("train")
    scene.begin(done)
    scene.end(done)
    carrying, ended = (scene.github.commit(REPO, "main", {"a": text}, text) for text in "12")

    def carry(session: Session) -> None:
        row = NotNeeded(repo_id=1, sha=carrying, workflow="train", why="no path matched", created_at=1)
        row.carried_sha = scene.sha
        session.add(row)
        note_head(session, 1, "refs/heads/main", carrying)
        mark_outdated(session, STATUS, f"1:{carrying}", scene.clock.now())

    scene.wiring.db.write(carry)
    scene.idle()
    assert scene.statuses(carrying)["dstack/train"][0] == "success"
    recorder = Recorder(scene)
    scene.use(recorder.senders(STATUS))
    other = scene.run("train", ended)
    scene.begin(other)
    scene.end(other)
    scene.run("train")
    scene.idle()
    targets = [target for _, target, _ in recorder.seen]
    assert sorted(targets[:2]) == sorted([f"1:{scene.sha}", f"1:{carrying}"]) and targets[2:] == [f"1:{ended}"]


def test_writes_are_a_second_apart_and_a_reaction_need_not_queue(scene: Scene) -> None:
    recorder = Recorder(scene, writes=3)
    scene.use(recorder.senders(REACTION, CHECK))
    scene.mark(CHECK, "1:1")
    assert scene.lane.step() == 1.0
    scene.mark(REACTION, "1:9")
    scene.idle()
    assert recorder.order == [(CHECK, "1:1")] + [(REACTION, "1:9")] * 3 + [(CHECK, "1:1")] * 3
    assert all(after - before >= 1.0 for (*_, before), (*_, after) in pairwise(recorder.seen))
    assert set(scene.slept) == {1.0}


def test_a_target_marked_while_it_is_written_is_rendered_again(scene: Scene) -> None:
    recorder = Recorder(scene)
    scene.use(recorder.senders(CHECK))
    scene.mark(CHECK, "1:1")
    recorder.after = lambda kind, target: scene.mark(kind, target) if len(recorder.seen) == 1 else None
    scene.idle()
    assert len(recorder.seen) == 2 and scene.marks(later=True) == []


def test_marks_of_one_target_are_one_write(scene: Scene) -> None:
    recorder = Recorder(scene)
    scene.use(recorder.senders(STATUS))
    for _ in range(50):
        scene.mark(STATUS, f"1:{scene.sha}")
    scene.idle()
    assert len(recorder.seen) == 1


def test_a_lane_writes_for_its_own_installation_alone(scene: Scene) -> None:
    recorder = Recorder(scene)
    scene.use(recorder.senders(STATUS))
    for number, installation in ((2, scene.installation), (3, scene.installation + 1), (4, None)):
        row = Repo(owner="o", name=f"n{number}", forge="github", forge_id=str(number), installation_id=installation,
                   created_at=0)  # fmt: skip
        scene.wiring.db.write(lambda s, row=row: s.add(row))
        scene.mark(STATUS, f"{number}:{'a' * 40}")
    scene.idle()
    assert recorder.order == [(STATUS, f"2:{'a' * 40}")]
    assert len(scene.marks()) == 2


def test_a_sender_that_breaks_holds_up_nobody(scene: Scene) -> None:
    recorder = Recorder(scene)

    def broken(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
        raise ZeroDivisionError
        yield

    scene.use({REACTION: broken} | recorder.senders(CHECK))
    scene.mark(REACTION, "1:1")
    scene.mark(CHECK, "1:1")
    scene.idle()
    assert recorder.order == [(CHECK, "1:1")]
    assert scene.marks() == [] and scene.marks(later=True) == [(REACTION, "1:1")]


def test_a_sender_says_when_to_look_again(scene: Scene) -> None:
    recorder = Recorder(scene)

    def again(wiring: Wiring, mark: OutboxMark):  # type: ignore[no-untyped-def]
        yield lambda: recorder.note(mark)
        return scene.clock.now() + 60 if len(recorder.seen) < 3 else None

    scene.use({CHECK: again})
    scene.mark(CHECK, "1:1")
    scene.pass_time(300)
    times = [at for *_, at in recorder.seen]
    assert [round(after - before) for before, after in pairwise(times)] == [61, 61]
    assert scene.marks(later=True) == []


# Limits and outages


def busy_commit(scene: Scene) -> str:
    run = scene.run()
    scene.begin(run)
    scene.end(run)
    return run


def test_a_limit_is_obeyed_by_the_whole_lane(scene: Scene) -> None:
    scene.use(OURS)
    busy_commit(scene)
    scene.github.faults.secondary_limit("statuses", retry_after=37, method="POST", count=1)
    scene.idle()
    assert scene.slept[0] == 37 and scene.statuses()["dstack/train"][0] == "success"
    statuses, check = scene.github.writes("statuses"), scene.github.writes("check-runs")
    assert [call.status for call in statuses] == [403, 201]
    assert check[0].time >= statuses[1].time


def test_the_first_try_again_is_quick_and_the_next_are_ever_later(scene: Scene) -> None:
    scene.use({STATUS: send_statuses.send})
    busy_commit(scene)
    scene.github.faults.error(502, "statuses", method="POST", count=7)
    scene.idle()
    while scene.marks(later=True):
        scene.clock.pass_time(0.25)
        scene.idle()
    assert scene.statuses()["dstack/train"][0] == "success"
    assert scene.slept[0] <= 1.5
    assert scene.slept[:7] == sorted(scene.slept[:7]) and 16 <= scene.slept[6] <= 60


@pytest.mark.parametrize("how", ["503", "reset"])
def test_after_an_hour_of_outage_everything_is_right_within_two_minutes(scene: Scene, how: str) -> None:
    scene.use(OURS)
    with scene.github.outage(how):
        runs = []
        for at in range(4):
            sha = scene.github.commit(REPO, "main", {"train.py": f"print({at})\n"}, "Again")
            mine = scene.runs({"train": {}, "lint": {}}, sha)
            for run in mine.values():
                scene.begin(run)
            runs.append((sha, mine))
            scene.pass_time(900, every_s=60)
            scene.end(mine["train"])
            scene.fail(mine["lint"])
    calls = [call for call in scene.github.calls("check-runs|statuses") if call.status not in (200, 201)]
    assert len(calls) < 200
    began = scene.clock.now()
    while scene.marks(later=True):
        assert scene.clock.now() - began <= 120, scene.marks(later=True)
        scene.pass_time(1)
    for sha, _ in runs:
        assert {c: state for c, (state, _) in scene.statuses(sha).items()} == {
            "dstack/train": "success",
            "dstack/lint": "failure",
        }
        checks = scene.github.checks(REPO, sha)
        assert sorted((check.name, check.conclusion) for check in checks) == [
            ("dstack / lint", "failure"),
            ("dstack / train", "success"),
        ]


def test_tokens_that_die_are_renewed(scene: Scene) -> None:
    scene.use(OURS)
    run = scene.run()
    scene.begin(run)
    scene.idle()
    scene.github.expire_tokens()
    scene.end(run)
    scene.idle()
    assert scene.statuses()["dstack/train"][0] == "success"
    assert scene.github.checks(REPO)[0].conclusion == "success"


# Refusals


def problems(scene: Scene) -> dict[tuple[str, str], str]:
    rows = scene.wiring.db.read(parked)
    return {(row.kind, row.target): row.problem for row in rows}


def test_what_github_forbids_is_parked_with_its_reason_until_it_is_allowed(scene: Scene) -> None:
    scene.use(OURS)
    permissions = dict(scene.github.installations[scene.installation].permissions)
    scene.github.grant(scene.installation, {**permissions, "statuses": "read"})
    busy_commit(scene)
    scene.idle()
    assert scene.marks(later=True) == []
    assert list(problems(scene)) == [(STATUS, scene.sha)]
    assert "not accessible" in problems(scene)[STATUS, scene.sha]
    assert scene.github.checks(REPO)[0].conclusion == "success"  # the rest goes on
    calls = len(scene.github.ledger)
    scene.pass_time(3600, every_s=60)
    assert len(scene.github.ledger) == calls
    scene.github.grant(scene.installation, permissions)
    scene.github.expire_tokens()
    scene.wiring.db.write(lambda s: unpark(s, [1], scene.clock.now()))
    scene.idle()
    assert scene.statuses()["dstack/train"][0] == "success" and problems(scene) == {}


def test_a_repository_that_is_gone_is_asked_once(scene: Scene) -> None:
    scene.use(OURS)
    scene.github.delete_repo(REPO)
    busy_commit(scene)
    scene.idle()
    assert sorted(kind for kind, _ in problems(scene)) == [CHECK, STATUS]
    assert scene.marks(later=True) == [] and len(scene.github.writes()) == 2


def test_what_was_refused_for_our_key_is_sent_once_github_takes_it(scene: Scene) -> None:
    scene.use(OURS)
    sync_installations(scene.wiring)
    scene.wiring.db.write(lambda s: note_refused(s, 1, COMMENT, "9", "it is gone", 404))
    busy_commit(scene)
    scene.idle()
    scene.github.expire_tokens()
    scene.github.faults.error(401, "access_tokens", count=None)
    scene.run("lint")
    scene.idle()
    assert {kind for kind, _ in problems(scene)} == {STATUS, CHECK, COMMENT}
    sync_installations(scene.wiring)
    assert scene.marks() == [] and len(scene.github.checks(REPO)) == 1
    scene.github.faults.clear()
    sync_installations(scene.wiring)
    assert scene.marks() == [(CHECK, "1:2"), (STATUS, f"1:{scene.sha}")]
    scene.idle()
    assert [check.name for check in scene.github.checks(REPO)] == ["dstack / train", "dstack / lint"]
    assert scene.statuses()["dstack/lint"][0] == "pending" and list(problems(scene)) == [(COMMENT, "9")]
    sync_installations(scene.wiring)
    assert scene.marks() == []


def test_a_status_refused_for_good_holds_up_no_other(scene: Scene) -> None:
    scene.use({STATUS: send_statuses.send})
    runs = scene.runs({"train": {}, "lint": {}})
    for run in runs.values():
        scene.begin(run)
        scene.end(run)
    scene.github.faults.error(422, "statuses", method="POST", count=2)
    scene.idle()
    assert scene.marks(later=True) == []
    assert list(scene.statuses()) == ["dstack/lint"]
    assert list(problems(scene)) == [(STATUS, f"{scene.sha}:dstack/train")]


def test_a_sender_may_answer_a_refusal(scene: Scene) -> None:
    tried: list[str] = []

    def write(text: str) -> None:
        tried.append(text)
        if len(text) > 5:
            raise ForgeRefused("too long", answer=422)

    def send(wiring: Wiring, mark: OutboxMark) -> Iterator[Callable[[], None]]:
        try:
            yield lambda: write("much too long")
        except ForgeRefused:
            yield lambda: write("short")

    scene.use({REPLY: send})
    scene.mark(REPLY, "1:1")
    scene.idle()
    assert tried == ["much too long", "short"] and scene.marks(later=True) == [] and problems(scene) == {}


# Not connected


def test_a_suspended_installation_is_not_stormed_and_catches_up(scene: Scene) -> None:
    scene.use(OURS)
    scene.github.suspend(scene.installation)
    busy_commit(scene)
    before = len(scene.github.ledger)
    scene.pass_time(600)
    assert len(scene.github.ledger) - before <= 40
    scene.github.unsuspend(scene.installation)
    scene.pass_time(120)
    assert scene.statuses()["dstack/train"][0] == "success" and scene.marks(later=True) == []


def test_an_app_that_was_removed_is_asked_nothing(scene: Scene) -> None:
    scene.use(OURS)

    def remove(session: Session) -> None:
        repo = repo_by_name(session, "acme", "vision")
        assert repo is not None
        repo.installation_id = None

    scene.wiring.db.write(remove)
    busy_commit(scene)
    before = asked(scene)
    scene.pass_time(60)
    assert asked(scene) == before and len(scene.marks()) == 2


def asked(scene: Scene) -> int:
    """Calls to GitHub, without the one for our own name, which is asked for on the side once an App is connected."""
    return len([call for call in scene.github.ledger if call.path != "/app"])


def test_without_an_app_everything_waits_in_silence(scene: Scene) -> None:
    scene.use(OURS)
    scene.wiring.forge.connect(None)
    busy_commit(scene)
    scene.pass_time(60)
    assert len(scene.marks()) == 2


# Cost


def test_a_pull_request_with_three_trainings_of_an_hour_costs_sixty_writes_at_most(
    tmp_path: Path, clock: FakeClock
) -> None:
    """Each reports metrics every ten seconds, and moves a tag at its end."""
    with play(tmp_path, clock) as scene:
        head = scene.github.push(REPO, "better", {"train.py": "print(2)\n"})
        number = scene.github.open_pull(REPO, "better", "main", "Better", "ada")
        now = clock.now()
        pull = PullRequest(repo_id=1, number=number, head_sha=head, base_branch="main", head_at=now, updated_at=now)
        scene.wiring.db.write(lambda s: s.add(pull))
        scene.use(OURS)
        workflows = {"prepare": {"auto_tag": "latest"}, "train": {"auto_tag": "latest"}, "eval": {"auto_tag": "latest"}}
        runs = list(scene.runs(workflows, head, pull_request=number, base_branch="main").values())
        scene.pass_time(5)
        for run in runs:
            scene.begin(run)
            scene.pass_time(7)
        for step in range(360):
            scene.all_metrics(runs, step, step / 400)
            scene.pass_time(10, every_s=10)
        for run in runs:
            scene.end(run)
            scene.pass_time(7)
        scene.idle()
        by_kind = {path: len(scene.github.writes(path)) for path in ("statuses", "check-runs", "comments")}
        assert sum(by_kind.values()) == len(scene.github.writes()) <= 60, by_kind
        assert {state for state, _ in scene.statuses(head).values()} == {"success"}
        assert {check.conclusion for check in scene.github.checks(REPO)} == {"success"}
        assert len(scene.github.comments(REPO, number)) == 1
