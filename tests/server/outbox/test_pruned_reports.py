"""What was told of a run goes with it: its id may be another run's one day."""

from __future__ import annotations

from outbox_scene import REPO, Scene
from sqlmodel import Session, col, select

from dstack.server.models import ForgeReport, OutboxMark
from dstack.server.services.prune import prune
from dstack.wire.api import PruneRequest


def test_a_run_with_the_id_of_a_pruned_one_has_a_check_of_its_own(scene: Scene) -> None:
    scene.wiring.git.create("1")
    old = scene.run()
    scene.begin(old)
    scene.end(old)
    old_id = scene.row(old).id
    scene.idle()
    scene.mark("check", f"1:{old_id}")
    scene.clock.pass_time(90 * 86_400)
    assert prune(scene.wiring, PruneRequest(days=30, dry_run=False)).runs == 1

    def left(session: Session) -> tuple[int, int]:
        reports = session.exec(select(ForgeReport).where(col(ForgeReport.kind).in_(["check", "status"]))).all()
        marks = session.exec(select(OutboxMark).where(OutboxMark.kind == "check")).all()
        return len(reports), len(marks)

    assert scene.wiring.db.read(left) == (0, 0)
    sha = scene.github.commit(REPO, "main", {"train.py": "print(2)\n"}, "Again")
    new = scene.run(sha=sha)
    assert scene.row(new).id == old_id
    scene.begin(new)
    scene.idle()
    assert [(check.head_sha, check.conclusion) for check in scene.github.checks(REPO)] == [
        (scene.sha, "success"),
        (sha, None),
    ]
