"""What runs are compared with, and their verdicts, in a real repository."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from verdict_scene import Scene

from dstack.errors import GitFailed
from dstack.git.notes import parse
from dstack.server.gateways.history import History
from dstack.server.models import Run
from dstack.server.services.write_notes import write_notes
from dstack.server.store.outbox import NOTES, VERDICT, mark_unjudged
from dstack.server.store.retention import delete_runs
from dstack.server.store.runs import run_by_name
from dstack.server.transitions.tags import move_tag
from dstack.wire.states import JobState, Trigger, Verdict

PASSED, FAILED, PENDING, NO_BASE = Verdict.PASSED, Verdict.FAILED, Verdict.PENDING, Verdict.NO_BASE


def test_a_pull_request_is_compared_with_where_it_parted_not_with_what_came_after(scene: Scene) -> None:
    scene.done(scene.commit(), 0.5)
    parted = scene.commit()
    base = scene.done(parted, 0.92)
    head = scene.commit("feature", parted)
    scene.done(scene.commit(), 0.99)  # main goes on
    run = scene.end(scene.pull(head), accuracy=0.915)
    assert scene.judge() == 1
    assert scene.base(run) == base
    assert scene.said(run) == (PASSED, "accuracy 0.915 >= base 0.92 - 0.01")


def test_where_the_merge_base_has_no_run_an_older_commit_of_the_branch_counts(scene: Scene) -> None:
    base = scene.done(scene.commit(), 0.92)
    side = scene.commit("side")
    scene.done(side, 0.5)
    merge = scene.commit("main", scene.wiring.git.resolve("1", "main"), side)  # its second parent is not main's line
    run = scene.end(scene.pull(scene.commit("feature", merge)), accuracy=0.9)
    scene.judge()
    assert scene.base(run) == base
    assert scene.said(run) == (FAILED, "accuracy 0.9 < base 0.92 - 0.01")


def test_a_push_is_compared_with_what_was_there_before(scene: Scene) -> None:
    one = scene.done(scene.commit(), 0.9)
    assert scene.said(one) == (NO_BASE, "first result")
    assert scene.base(one) is None
    two = scene.done(scene.commit(), 0.91)
    assert scene.base(two) == one
    scene.commit()  # nothing ran there
    three = scene.done(scene.commit(), 0.895)
    assert scene.base(three) == two
    assert scene.said(three) == (FAILED, "accuracy 0.895 < base 0.91 - 0.01")


def test_other_runs_of_a_commit_are_not_the_base_of_its_push(scene: Scene) -> None:
    sha = scene.commit()
    scene.done(sha, 0.9)
    assert scene.base(scene.done(sha, 0.9)) is None


@pytest.mark.parametrize("trigger", [Trigger.MANUAL, Trigger.SCHEDULE, Trigger.EVENT, Trigger.TAG_MOVED])
def test_what_was_started_otherwise_is_compared_with_the_default_branch(scene: Scene, trigger: Trigger) -> None:
    on_main = scene.commit()
    base = scene.done(on_main, 0.9)
    nightly = scene.end(scene.run(on_main, trigger, clean=False), accuracy=0.91)
    branch = scene.commit("feature", on_main)
    scene.done(branch, 0.5)
    by_hand = scene.end(scene.run(branch, trigger, clean=False), accuracy=0.91)
    scene.judge()
    assert scene.base(nightly) == scene.base(by_hand) == base
    assert scene.said(by_hand)[0] is PASSED


def test_the_default_branch_is_the_one_of_the_repository(scene: Scene) -> None:
    base = scene.done(scene.commit("trunk"), 0.9)
    scene.wiring.git.set_default_branch("1", "trunk")
    branch = scene.commit("feature", scene.wiring.git.resolve("1", "trunk"))
    by_hand = scene.end(scene.run(branch, Trigger.MANUAL, clean=False), accuracy=0.9)
    scene.judge()
    assert scene.base(by_hand) == base


def test_runs_that_are_not_clean_or_not_trusted_or_of_other_work_are_no_base(scene: Scene) -> None:
    base = scene.done(scene.commit(), 0.9)
    newer = scene.commit()
    scene.done(newer, 0.99, clean=False)
    scene.done(newer, 0.99, trusted=False)
    scene.done(newer, 0.99, workflow="prepare")
    run = scene.done(scene.commit(), 0.9)
    assert scene.base(run) == base


def test_a_base_that_trains_is_waited_for_and_judges_when_it_lands(scene: Scene) -> None:
    parted = scene.commit()
    base = scene.run(parted)
    head = scene.commit("feature", parted)
    run = scene.end(scene.pull(head), accuracy=0.9)
    scene.judge()
    assert scene.said(run) == (PENDING, f"base {base} still runs")
    assert scene.base(run) == base
    assert scene.judge() == 0
    scene.commit("main", scene.wiring.git.resolve("1", "main"), head)  # merged meanwhile
    scene.end(base, accuracy=0.92)
    assert sorted(scene.marks(VERDICT)) == sorted(f"1:{scene.row(name).id}" for name in (base, run))
    assert scene.judge() == 2
    assert scene.said(run) == (FAILED, "accuracy 0.9 < base 0.92 - 0.01")
    assert scene.base(run) == base


def test_a_base_that_fails_gives_way_to_the_next_older_one(scene: Scene) -> None:
    older = scene.done(scene.commit(), 0.9)
    base = scene.run(scene.commit())
    run = scene.end(scene.run(scene.commit()), accuracy=0.91)
    scene.judge()
    assert scene.said(run)[0] is PENDING
    scene.end(base, JobState.FAILED, accuracy=0.99)
    scene.judge()
    assert scene.base(run) == older
    assert scene.said(run) == (PASSED, "accuracy 0.91 >= base 0.9 - 0.01")


def test_a_base_that_fails_and_is_retried_is_waited_for_again(scene: Scene) -> None:
    sha = scene.commit()
    base = scene.run(sha)
    run = scene.end(scene.run(scene.commit()), accuracy=0.91)
    scene.judge()
    again = scene.run(sha)
    scene.end(base, JobState.STOPPED)
    scene.judge()
    assert scene.said(run) == (PENDING, f"base {again} still runs")
    scene.end(again, accuracy=0.9)
    scene.judge()
    assert scene.said(run)[0] is PASSED


def test_a_pull_request_merged_before_its_run_ended_keeps_its_base(scene: Scene) -> None:
    parted = scene.commit()
    base = scene.done(parted, 0.92)
    head = scene.commit("feature", parted)
    scene.pull_row(parted)
    run = scene.pull(head)
    scene.done(scene.commit("main", head), 0.99)  # fast-forwarded, and more on top
    scene.end(run, accuracy=0.9)
    scene.judge()
    assert scene.base(run) == base


def test_a_run_has_its_base_while_it_goes_on(scene: Scene) -> None:
    older = scene.done(scene.commit(), 0.9)
    parted = scene.commit()
    run = scene.pull(scene.commit("feature", parted), auto_tag="latest")
    scene.mark(run)
    scene.judge()
    assert (scene.base(run), scene.said(run), scene.tags()) == (older, (None, ""), {})
    base = scene.done(parted, 0.95)  # its push came late
    scene.end(run, accuracy=0.9)
    scene.judge()
    assert scene.base(run) == base
    assert scene.said(run)[0] is FAILED


def test_runs_on_a_mirror_are_looked_at_when_they_are_made(scene: Scene) -> None:
    run = scene.run(scene.commit())
    assert scene.marks(VERDICT) == []
    scene.make_mirror()
    other = scene.run(scene.commit())
    assert scene.marks(VERDICT) == [f"1:{scene.row(other).id}"]
    scene.judge()
    assert scene.base(other) == run


def test_a_pull_request_merged_and_forgotten_by_the_forge_keeps_the_base_it_had(scene: Scene) -> None:
    parted = scene.commit()
    base = scene.done(parted, 0.92)
    head = scene.commit("feature", parted)
    run = scene.pull(head)
    scene.mark(run)
    scene.judge()
    scene.done(scene.commit("main", head), 0.99)
    scene.end(run, accuracy=0.9)
    scene.judge()
    assert scene.base(run) == base


def test_a_fork_is_compared_with_runs_of_the_repo_it_goes_to(scene: Scene) -> None:
    parted = scene.commit()
    base = scene.done(parted, 0.92)
    fork = "1-pull-7"
    scene.wiring.git.create(fork)
    borrowed = scene.wiring.git.path(fork) / "objects" / "info" / "alternates"
    borrowed.parent.mkdir(exist_ok=True)
    borrowed.write_text(f"{scene.wiring.git.path('1') / 'objects'}\n")
    head = scene.commit("feature", parted, objects=fork)
    assert not scene.wiring.git.has_commit("1", head)
    run = scene.end(scene.pull(head, objects=fork, trusted=False), accuracy=0.9)
    scene.judge()
    assert scene.base(run) == base
    assert scene.said(run)[0] is FAILED


def test_a_loss_below_the_noise_of_the_base_is_none(scene: Scene) -> None:
    for accuracy in (0.918, 0.926, 0.922):
        scene.done(scene.commit(), accuracy)
    run = scene.done(scene.commit(), 0.911)
    assert scene.said(run) == (
        Verdict.WITHIN_NOISE,
        "accuracy 0.911 < base 0.922 - 0.01, within the noise of the base (0.004)",
    )


def test_mean_and_spread_are_of_the_last_runs_of_the_base(scene: Scene) -> None:
    for accuracy in (0.1, 0.90, 0.92, 0.91, 0.90, 0.92):  # the first is the sixth before
        scene.done(scene.commit(), accuracy)
    run = scene.done(scene.commit(), 0.89, gate="accuracy >= base.mean - 2 * base.std")
    assert scene.said(run) == (PASSED, "accuracy 0.89 >= base.mean 0.91 - 2 * base.std 0.01")


def test_a_gate_may_name_a_tag(scene: Scene) -> None:
    sha = scene.commit()
    prod = scene.done(sha, 0.9)
    gate = 'accuracy >= tag("prod") - 0.002'
    first = scene.end(scene.run(sha, Trigger.SCHEDULE, gate=gate, clean=False), accuracy=0.5)
    scene.judge()
    assert scene.said(first) == (NO_BASE, "no run carries the tag prod yet")

    def tag(session):  # type: ignore[no-untyped-def]
        move_tag(session, run_by_name(session, prod), "prod", by="me", now=scene.clock.now())  # type: ignore[arg-type]

    scene.db.write(tag)
    scene.run(scene.commit())  # a base that trains is none of its business
    nightly = scene.end(scene.run(sha, Trigger.SCHEDULE, gate=gate, clean=False), accuracy=0.89)
    scene.judge()
    assert scene.said(nightly) == (FAILED, "accuracy 0.89 < tag prod 0.9 - 0.002")
    assert scene.base(nightly) == prod


def test_an_automatic_tag_waits_for_the_verdict(scene: Scene) -> None:
    tagged = {"auto_tag": "latest"}
    one = scene.end(scene.run(scene.commit(), **tagged), accuracy=0.9)
    assert scene.tags() == {}
    scene.judge()
    assert scene.tags() == {"train:latest": one}
    scene.done(scene.commit(), 0.5, **tagged)  # fails its gate
    assert scene.tags() == {"train:latest": one}
    base = scene.run(scene.commit())
    waiting = scene.end(scene.run(scene.commit(), **tagged), accuracy=0.91)
    scene.judge()
    assert scene.tags() == {"train:latest": one}
    scene.end(base, accuracy=0.9)
    scene.judge()
    assert scene.tags() == {"train:latest": waiting}


def test_an_automatic_tag_never_goes_back_to_an_older_run(scene: Scene) -> None:
    parted = scene.commit()
    base = scene.run(parted)
    older = scene.end(scene.run(scene.commit(), auto_tag="latest"), accuracy=0.9)
    scene.judge()
    newer = scene.done(scene.commit(), 0.95, gate=None, auto_tag="latest")
    assert scene.tags() == {"train:latest": newer}
    scene.end(base, accuracy=0.9)
    scene.judge()
    assert scene.said(older)[0] is PASSED
    assert scene.tags() == {"train:latest": newer}


def test_a_push_that_changes_nothing_does_not_turn_a_failed_gate_green(scene: Scene) -> None:
    base = scene.done(scene.commit(), 0.9)
    worse = scene.done(scene.commit(), 0.5)
    readme = scene.adopt(scene.run(scene.commit(), auto_tag="latest"), worse)
    scene.end(readme, accuracy=0.5)
    scene.judge()
    assert scene.base(readme) == base
    assert scene.said(readme) == (FAILED, "accuracy 0.5 < base 0.9 - 0.01")
    assert scene.tags() == {}
    better = scene.done(scene.commit(), 0.5)  # other work, as good as what is there
    assert scene.base(better) == readme
    assert scene.said(better)[0] is PASSED


def test_a_pull_request_that_changes_nothing_is_compared_with_what_is_there(scene: Scene) -> None:
    scene.done(scene.commit(), 0.5)
    parted = scene.commit()
    base = scene.done(parted, 0.9)
    readme = scene.adopt(scene.pull(scene.commit("feature", parted)), base)
    scene.end(readme, accuracy=0.9)
    scene.judge()
    assert scene.base(readme) == base
    assert scene.said(readme) == (PASSED, "accuracy 0.9 >= base 0.9 - 0.01")


def test_without_a_gate_a_run_has_its_base_and_no_verdict(scene: Scene) -> None:
    base = scene.done(scene.commit(), 0.9, gate=None, auto_tag="latest")
    assert scene.tags() == {"train:latest": base}
    run = scene.end(scene.run(scene.commit(), gate=None))
    scene.judge()
    assert scene.base(run) == base
    assert scene.said(run) == (None, "")


def test_a_run_that_failed_has_no_verdict(scene: Scene) -> None:
    base = scene.done(scene.commit(), 0.9)
    run = scene.end(scene.run(scene.commit()), JobState.FAILED, accuracy=0.1)
    scene.judge()
    assert scene.said(run) == (None, "")
    assert scene.base(run) == base


def test_a_verdict_is_a_record(scene: Scene) -> None:
    base = scene.run(scene.commit())
    run = scene.end(scene.run(scene.commit(), gate="accuracy > 0.5"), accuracy=0.9)
    scene.judge()
    assert scene.said(run) == (PASSED, "accuracy 0.9 > 0.5")  # a fixed bar waits for no base
    scene.end(base, accuracy=0.95)
    scene.judge()
    assert scene.said(run) == (PASSED, "accuracy 0.9 > 0.5")
    assert scene.base(run) == base


def test_a_commit_or_a_repository_that_is_gone_has_no_base(scene: Scene) -> None:
    scene.commit()
    lost = scene.end(scene.run("a" * 40), accuracy=0.9)
    pull = scene.end(scene.pull("b" * 40, base="no such branch"), accuracy=0.9)
    forked = scene.end(scene.pull("b" * 40, objects="1-pull-9"), accuracy=0.9)
    scene.judge()
    assert scene.said(lost) == scene.said(pull) == scene.said(forked) == (NO_BASE, "first result")
    scene.wiring.git.remove("1")
    again = scene.end(scene.run("c" * 40), accuracy=0.9)
    by_hand = scene.end(scene.run("c" * 40, Trigger.MANUAL), accuracy=0.9)
    scene.judge()
    fork = scene.end(scene.pull("c" * 40, objects="1-pull-7"), accuracy=0.9)
    scene.judge()
    assert scene.said(again) == scene.said(by_hand) == scene.said(fork) == (NO_BASE, "first result")
    assert scene.marks(VERDICT) == []


def test_git_that_fails_is_asked_again_and_holds_up_no_other_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = scene.commit(), scene.commit()
    scene.done(one, 0.9)
    bad, good = scene.end(scene.run(two), accuracy=0.9), scene.end(scene.run(one, Trigger.MANUAL), accuracy=0.9)
    whole = History.first_parents

    def fails(self: History, repo_id: str, sha: str, limit: int) -> tuple[str, ...]:
        if sha == two:
            raise GitFailed("git rev-list failed: disk")
        return whole(self, repo_id, sha, limit)

    monkeypatch.setattr(History, "first_parents", fails)
    scene.judge()
    assert scene.said(bad) == (None, "")
    assert scene.said(good)[0] is PASSED
    monkeypatch.undo()
    assert scene.judge() == 0
    scene.clock.pass_time(30)
    assert scene.judge() == 1
    assert scene.said(bad)[0] is PASSED


def test_a_run_that_is_gone_leaves_no_mark(scene: Scene) -> None:
    run = scene.end(scene.run(scene.commit()), accuracy=0.9)
    row = scene.row(run)

    def forget(session):  # type: ignore[no-untyped-def]
        delete_runs(session, [row.id or 0])

    scene.db.write(forget)
    assert scene.judge() == 0
    assert scene.marks(VERDICT) == []


def test_a_pruned_base_is_no_base(scene: Scene) -> None:
    base = scene.done(scene.commit(), 0.9)
    run = scene.done(scene.commit(), 0.9)

    def forget(session):  # type: ignore[no-untyped-def]
        delete_runs(session, [scene.row(base).id or 0])
        mark_unjudged(session, session.get_one(Run, scene.row(run).id), scene.clock.now())

    scene.db.write(forget)
    scene.judge()
    assert scene.row(run).base_run_id is None
    assert scene.said(run)[0] is PASSED


def test_the_note_is_written_anew_with_the_verdict(scene: Scene) -> None:
    sha = scene.commit()
    scene.end(scene.run(sha), accuracy=0.9)
    write_notes(scene.wiring)
    assert scene.marks(NOTES) == []
    scene.judge()
    write_notes(scene.wiring)
    (note,) = scene.wiring.notes.read("1").values()
    (record,) = parse(note)
    assert record["verdict"] == "no_base"
    assert "accuracy 0.9, gate no base [push]" in note


def test_many_runs_of_one_push_ask_git_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = scene.commit(), scene.commit()
    names = [f"w{number}" for number in range(40)]
    before = [scene.end(scene.run(one, workflow=name, gate=None)) for name in names]
    scene.judge()
    after = [scene.end(scene.run(two, workflow=name, gate=None)) for name in names]
    asked: list[Sequence[str]] = []
    ask = scene.wiring.git.ask

    def counted(repo_id: str, argv: Sequence[str]) -> bytes:
        asked.append(argv)
        return ask(repo_id, argv)

    monkeypatch.setattr(scene.wiring.git, "ask", counted)
    assert scene.judge() == 40
    assert [scene.base(name) for name in after] == before
    assert len(asked) == 1
