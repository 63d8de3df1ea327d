"""Saving artifacts: from the job's last breath to their being in the store, whole, checked and synced.

A runner beside its server speaks HTTP like any other, so one time stands beside two floors: a local copy with its
hash and one sync, and a bare PUT of the same bytes, hashed on the way, to a server that writes and syncs them.
"""

from __future__ import annotations

import hashlib
import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from figures import Figure, middle
from put_server import serving
from scene import Scene, started, workflows, write

MAKER = """
import os, pathlib, random, sys, time
count, size = int(sys.argv[1]), int(sys.argv[2])
folder = pathlib.Path("out")
folder.mkdir()
block = random.Random(SEED).randbytes(min(size, 1 << 20) - 16)
for number in range(count):
    with open(folder / f"f{number:05}", "wb") as file:
        for part in range(max(1, size >> 20)):
            file.write(b"%08d%08d" % (number, part) + block)
os.sync()
print(time.time(), flush=True)
"""
FLOW = """
name: {name}
provider: bash
commands: [{python} make.py {count} {size}]
artifacts: [out]
"""


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    shapes = {"1 GiB file": (1, 1 << 30), "10 000 files of 10 KB": (10_000, 10_000)}
    if quick:
        shapes = {"100 MiB file": (1, 100 << 20), "1 000 files of 10 KB": (1_000, 10_000)}
    with started(root) as scene:
        for label, (count, size) in shapes.items():
            yield from _shape(scene, label, count, size, rounds=1 if quick else 3)


def _shape(scene: Scene, label: str, count: int, size: int, rounds: int) -> Iterator[Figure]:
    repo = scene.new_repo(f"save{count}", {})
    taken, copies, puts = zip(*(_round(scene, repo, number, count, size) for number in range(rounds)), strict=True)
    ours, copied, put = middle(taken), middle(copies), middle(puts)
    spread = f"; medians of {rounds}, ours {min(taken):.1f} to {max(taken):.1f} s"
    yield Figure(
        f"save artifact, {label}, beside the server", "s", ours, ">= 70 % of floor", copied / ours >= 0.7, copied,
        "cp -r, SHA-256 of every file, one sync", f"{100 * copied / ours:.0f} % of the floor's speed{spread}",
    )  # fmt: skip
    yield Figure(
        f"save artifact, {label}, over HTTP", "s", ours, ">= 80 % of floor", put / ours >= 0.8, put,
        "SHA-256, then a bare PUT per file (4 at once) to uvicorn that hashes and writes, one sync",
        f"{100 * put / ours:.0f} % of the floor's speed",
    )  # fmt: skip
    before = _bytes_below(scene.data / "objects")
    write(repo, {"change.txt": "the same bytes are made again\n"})
    again = _seconds(scene, repo)
    grown = _bytes_below(scene.data / "objects") - before
    yield Figure(
        f"same artifact saved again, {label}", "s", again, "0 bytes sent", grown == 0,
        note=f"the store grew by {grown} bytes",
    )  # fmt: skip


def _round(scene: Scene, repo: Path, number: int, count: int, size: int) -> tuple[float, float, float]:
    """Seconds of ours, of the copy and of the bare PUTs, on bytes that none of them has seen."""
    flow = FLOW.format(name="save", python=sys.executable, count=count, size=size)
    write(repo, {"make.py": MAKER.replace("SEED", str(number)), **workflows(flow)})
    ours = _seconds(scene, repo)
    folder = scene.root / f"{repo.name}-{number}"
    folder.mkdir()
    words = [sys.executable, repo / "make.py", str(count), str(size)]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return ours, _copy(folder / "out", folder / "copy"), _put(folder / "out", folder / "put")


def _seconds(scene: Scene, repo: Path) -> float:
    (run,) = scene.push_and_wait(repo, within_s=600)
    printed = scene.log_path(run.attempt).read_text().splitlines()[0]
    return run.finished - float(printed)


def _bytes_below(folder: Path) -> int:
    """Of content: the index of packs grows by pages of its own."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "index." not in path.name)


def _copy(source: Path, target: Path) -> float:
    began = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    for path in target.iterdir():
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    _sync(target)
    return time.perf_counter() - began


def _put(source: Path, target: Path) -> float:
    with serving(target) as port:
        began = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda paths: _put_all(port, paths), _shares(sorted(source.iterdir()), 4)))
        _sync(target)
        return time.perf_counter() - began


def _shares(paths: list[Path], count: int) -> list[list[Path]]:
    return [paths[start::count] for start in range(count) if paths[start::count]]


def _put_all(port: int, paths: list[Path]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=1 << 20)
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            connection.request("PUT", f"/{digest}", body=file, headers={"Content-Length": str(path.stat().st_size)})
            connection.getresponse().read()
    connection.close()


def _sync(folder: Path) -> None:
    """One sync of the whole filesystem that `folder` is on, as `syncfs` does."""
    subprocess.run(["sync", "--file-system", folder], check=True)
