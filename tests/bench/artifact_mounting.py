"""Mounting a large artifact that the runner already has: what it adds to the start of a job.

Two workflows differ only in the input; the time is that from the accepted offer to the job's own first instant.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from artifact_saving import MAKER
from figures import Figure, middle
from scene import Scene, started, workflows, write

MAKE = """
name: make
provider: bash
commands: [{python} make.py {count} {size}]
artifacts: [out]
tag: latest
paths: [make.py]
"""
USE = """
name: {name}
provider: bash
commands: [date +%s.%N]
paths: [{name}.txt]
"""


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    count, size = (10, 10 << 20) if quick else (10, 1000 << 20)
    rounds = 3 if quick else 5
    with started(root) as scene:
        make = MAKE.format(python=sys.executable, count=count, size=size)
        with_input = USE.format(name="with") + "depends-on: [make:latest]\n"
        flows = workflows(make, with_input, USE.format(name="without"))
        repo = scene.new_repo("large", {"make.py": MAKER.replace("SEED", "1"), **flows})
        _make(scene, repo)
        first, how = _start_ms(scene, repo, "with", 0)
        bare = [_start_ms(scene, repo, "without", number)[0] for number in range(rounds)]
        mounted = [_start_ms(scene, repo, "with", number + 1) for number in range(rounds)]
    cost = middle([took for took, _ in mounted]) - middle(bare)
    label = f"{count * size / 1e9:.1f} GB" if not quick else f"{count * size / 1e6:.0f} MB"
    yield Figure(
        f"mount of {label}, already on the runner", "ms", cost, "<= 200 ms", cost <= 200,
        note=f"{mounted[-1][1]}; from accepted offer to the job's first instant {middle(bare):.0f} ms without, "
        f"{middle([took for took, _ in mounted]):.0f} ms with it; the first time {first:.0f} ms: {how}",
    )  # fmt: skip


def _make(scene: Scene, repo: Path) -> None:
    """The first commit starts all three; the one that needs a tag which is not there yet fails, as it should."""
    scene.push(repo)
    deadline = time.monotonic() + 900
    while not scene.query("SELECT 1 FROM runs WHERE workflow = 'make' AND state = 'succeeded'"):
        if time.monotonic() > deadline or scene.query(
            "SELECT 1 FROM runs WHERE workflow = 'make' AND state = 'failed'"
        ):
            raise RuntimeError("the artifact was not made")
        time.sleep(0.5)


def _start_ms(scene: Scene, repo: Path, name: str, number: int) -> tuple[float, str]:
    """Milliseconds from the accepted offer to the job's first instant, and what the runner said of its input."""
    write(repo, {f"{name}.txt": f"{number}\n"})
    (run,) = scene.push_and_wait(repo, within_s=600)
    said, began = "", 0.0
    for line in scene.log_path(run.attempt).read_text().splitlines():
        if line.startswith("dstack: "):
            said = line.removeprefix("dstack: ")
        else:
            began = float(line)
    return 1000 * (began - run.accepted), said
