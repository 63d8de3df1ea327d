"""How many writes a pull request costs at GitHub: three trainings of an hour that report a metric every ten seconds.

Time is simulated, the lane and the GitHub it writes to are real. The floor is what any tool must write that shows a
state where it changes: for each workflow a status that waits, runs and ended, a check made and ended, and one comment
for all of them, made and edited at the end of each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

TESTS = Path(__file__).parents[1]
for beside in ("fakes", "server/outbox"):
    sys.path.insert(0, str(TESTS / beside))

from outbox_scene import REPO, Scene, play  # noqa: E402  they lie beside this folder
from server_clock import FakeClock  # noqa: E402

from dstack.server.models import PullRequest  # noqa: E402

WORKFLOWS = ("prepare", "train", "evaluate")
HOUR_S, EVERY_S = 3600, 10
FLOOR = len(WORKFLOWS) * (3 + 2) + 1 + len(WORKFLOWS)


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    clock = FakeClock()
    with play(root, clock) as scene:
        runs = _begin(scene, clock)
        before = len(scene.github.writes())
        for step in range(HOUR_S // EVERY_S):
            for run in runs:
                scene.metrics(run, step, step / 400)
            scene.pass_time(EVERY_S, every_s=EVERY_S)
        meanwhile = len(scene.github.writes()) - before
        for run in runs:
            scene.end(run)
            scene.pass_time(7)
        scene.idle()
        kinds = {kind: len(scene.github.writes(kind)) for kind in ("statuses", "check-runs", "comments")}
        total = len(scene.github.writes())
    note = ", ".join(f"{kind} {count}" for kind, count in kinds.items()) + f"; {meanwhile} while they train"
    name = f"GitHub writes for a pull request, {len(WORKFLOWS)} workflows of 1 h"
    yield Figure(name, "writes", total, "<= 60", total <= 60, FLOOR, "each change of a state told once", note)


def _begin(scene: Scene, clock: FakeClock) -> list[str]:
    """Three runs of a pull request, which a runner takes one after the other."""
    head = scene.github.push(REPO, "better", {"train.py": "print(2)\n"})
    number = scene.github.open_pull(REPO, "better", "main", "Better", "ada")
    now = clock.now()
    pull = PullRequest(repo_id=1, number=number, head_sha=head, base_branch="main", head_at=now, updated_at=now)
    scene.wiring.db.write(lambda session: session.add(pull))
    plans = {name: {"auto_tag": "latest"} for name in WORKFLOWS}
    runs = list(scene.runs(plans, head, pull_request=number, base_branch="main").values())
    scene.pass_time(5)
    for run in runs:
        scene.begin(run)
        scene.pass_time(7)
    return runs
