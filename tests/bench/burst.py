"""Many trivial runs at once: how many a second one server and one runner get through, and what memory that leaves.

One push of a commit with 200 workflows queues 200 runs in one stroke; each is a checkout of 51 files and `true`.
Counted from the first job in the queue to the end of the last run.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import Figure, middle
from scene import Scene, filler, started, workflows, write

SLOTS = 8


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    runs, bursts = (40, 2) if quick else (200, 5)
    with started(root, slots=SLOTS) as scene:
        time.sleep(3)  # what starting left behind is not what an idle server holds
        idle = scene.rss_mb()
        names = [f"name: w{number}\nprovider: bash\ncommands: ['true']" for number in range(runs)]
        repo = scene.new_repo("burst", {**filler(50, 8, 70_000), **workflows(*names)})
        rates, after = [], []
        for number in range(bursts):
            write(repo, {"change.txt": f"{number}\n"})
            rates.append(_burst(scene, repo))
            after.append(scene.rss_mb())
        floor = _plain(scene, repo, runs)
    what = f"{runs} x (git init, alternates, checkout, spawn true) in {SLOTS} threads"
    rate = middle(rates)
    yield Figure(
        f"burst of {runs} trivial runs, {SLOTS} slots", "runs/s", rate, ">= 20 runs/s", rate >= 20, floor, what,
        f"{bursts} bursts, {min(rates):.1f} to {max(rates):.1f}",
    )  # fmt: skip
    yield Figure("server memory (RSS), idle", "MB", idle, "<= 120 MB", idle <= 120)
    is_flat = after[-1] - after[0] <= 6
    yield Figure(
        f"server memory after {runs * bursts} runs", "MB", after[-1], "<= 120 MB, flat", is_flat and after[-1] <= 120,
        note=f"after each burst: {', '.join(f'{value:.0f}' for value in after)} MB",
    )  # fmt: skip


def _burst(scene: Scene, repo: Path) -> float:
    runs = scene.push_and_wait(repo, within_s=300)
    return len(runs) / (max(run.finished for run in runs) - min(run.queued for run in runs))


def _plain(scene: Scene, repo: Path, count: int) -> float:
    """Checkouts with a process each, a second, by plain git."""
    sha = scene.git(repo, "rev-parse", "HEAD").strip()

    def one(number: int) -> None:
        folder = scene.root / "plain" / str(number)
        folder.mkdir(parents=True)
        scene.git(folder, "init", "--quiet", "--template=")
        write(folder, {".git/objects/info/alternates": f"{repo}/.git/objects\n"})
        scene.git(folder, "checkout", "--quiet", "--detach", sha)
        subprocess.run(["true"], cwd=folder, check=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(SLOTS) as pool:
        list(pool.map(one, range(count)))
    return count / (time.perf_counter() - began)
