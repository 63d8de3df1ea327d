"""A job that prints a great deal: bytes a second into the server's store, nothing lost, and no memory taken for it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure
from scene import Scene, started, workflows

LINES = 10_000  # in a block of 1 MB
PRINTER = f"""
import os, sys
block = b"".join(b"%06d %s\\n" % (n, b"x" * 92) for n in range({LINES}))
print("began", flush=True)
for _ in range(int(sys.argv[1])):
    left = memoryview(block)
    while left:
        left = left[os.write(1, left):]
"""
FLOW = """
name: talk
provider: bash
commands: [{python} print_much.py {blocks}]
"""


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    blocks = 100 if quick else 1000
    with started(root) as scene:
        flow = workflows(FLOW.format(python=sys.executable, blocks=blocks))
        repo = scene.new_repo("talk", {"print_much.py": PRINTER, **flow})
        before = scene.rss_mb()
        with _Peak(scene) as peak:
            (run,) = scene.push_and_wait(repo, within_s=600)
        stored = scene.log_path(run.attempt)
        took = stored.stat().st_mtime_ns / 1e9 - peak.began(stored)
        size, whole = stored.stat().st_size, _digest(stored) == _expected(blocks)
        floor = _plain(scene, repo, blocks)
    rate = size / 1e6 / took
    yield Figure(
        f"log of {size / 1e6:.0f} MB in 100-byte lines, into the store", "MB/s", rate, ">= 100 MB/s, whole",
        rate >= 100 and whole, floor, "the same program | cat > file, and a sync",
        "nothing lost (SHA-256 equal)" if whole else "THE LOG IS NOT WHOLE",
    )  # fmt: skip
    grown = peak.rss_mb - before
    yield Figure(
        "server memory gained meanwhile (peak)", "MB", grown, "< 50 MB", grown < 50, note=f"from {before:.0f} MB"
    )


class _Peak:
    """Watches the server's memory, and when the first log appears, every 20 ms."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._first = 0.0
        self.rss_mb = 0.0

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def began(self, log: Path) -> float:
        assert self._first, log
        return self._first

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.rss_mb = max(self.rss_mb, self._scene.rss_mb())
            if not self._first and any((self._scene.data / "logs").glob("*/*.log")):
                self._first = time.time()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expected(blocks: int) -> str:
    digest = hashlib.sha256(b"began\n")
    block = b"".join(b"%06d %s\n" % (n, b"x" * 92) for n in range(LINES))
    for _ in range(blocks):
        digest.update(block)
    return digest.hexdigest()


def _plain(scene: Scene, repo: Path, blocks: int) -> float:
    """MB/s of the same program through a pipe into a file that is synced."""
    target = scene.root / "plain.log"
    words = f"{sys.executable} print_much.py {blocks} | cat > {target} && sync {target}"
    began = time.perf_counter()
    subprocess.run(["sh", "-c", words], cwd=repo, env=scene.env, check=True)
    return target.stat().st_size / 1e6 / (time.perf_counter() - began)
