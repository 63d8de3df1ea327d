"""How long a person waits: from a push that the server has taken in to the first line of the job's log on the server.

"Taken in" is the delivery's `received_at`, noted when the refs have moved. "First line" is the time at which the
server's log file got the only line that the job prints.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from figures import Figure, middle, p95
from scene import Scene, filler, started, workflows, write

LINE = "the first line"
BASH = f"""
name: hello
provider: bash
commands: [echo '{LINE}']
"""
PYTHON = """
name: hello
provider: python
script: hello.py
requirements: requirements.txt
"""


def measure(root: Path, quick: bool) -> Iterator[Figure]:
    rounds = 5 if quick else 20
    with started(root) as scene:
        yield from _small(scene, rounds)
        yield from _python(scene, rounds)
        yield from _large(scene, max(3, rounds // 2))


def _small(scene: Scene, rounds: int) -> Iterator[Figure]:
    repo = scene.new_repo("small", {**filler(50, 8, 70_000), **workflows(BASH)})
    taken, floors = _rounds(scene, repo, rounds, scene.root / "mirror-small")
    floor, what = middle(floors), "git fetch from the server's folder, checkout into a new folder, sh -c echo"
    note = f"n={rounds}, fastest {min(taken):.0f}, slowest {max(taken):.0f}"
    name = "push -> first log line, bash, 51 files"
    yield Figure(f"{name}: median", "ms", middle(taken), "<= 250 ms", middle(taken) <= 250, floor, what, note)
    yield Figure(f"{name}: p95", "ms", p95(taken), "<= 500 ms", p95(taken) <= 500)


def _python(scene: Scene, rounds: int) -> Iterator[Figure]:
    with _package_index(scene.root / "index") as index:
        files = {
            "requirements.txt": f"--index-url {index}\nbenchpkg==1.0\n",
            "hello.py": f"import benchpkg\nprint({LINE!r})\n",
        }
        repo = scene.new_repo("python", {**files, **workflows(PYTHON)})
        taken, floors = _rounds(scene, repo, rounds, scene.root / "mirror-python", after=f"{sys.executable} -c pass")
    what = "git fetch from the server's folder, checkout, an empty Python"
    yield Figure(
        "push -> first log line, python, requirements cached: median", "ms", middle(taken), "<= 500 ms",
        middle(taken) <= 500, middle(floors), what, f"p95 {p95(taken):.0f}",
    )  # fmt: skip


def _large(scene: Scene, rounds: int) -> Iterator[Figure]:
    repo = scene.new_repo("large", {**filler(2077, 513, 18_000), **workflows(BASH)})
    taken, floors = _rounds(scene, repo, rounds, scene.root / "mirror-large")
    floor = middle(floors)
    yield Figure(
        "push -> first log line, bash, 2 078 files: median", "ms", middle(taken), "<= floor + 150",
        middle(taken) <= floor + 150, floor, "git fetch from the server's folder, checkout, sh -c echo",
        f"{middle(taken) - floor:.0f} ms over the floor; p95 {p95(taken):.0f}",
    )  # fmt: skip


def _rounds(
    scene: Scene, repo: Path, rounds: int, mirror: Path, after: str = f"echo '{LINE}'"
) -> tuple[list[float], list[float]]:
    """Milliseconds of ours and of the floor for each push, the floor on the same commit right after."""
    scene.push_and_wait(repo)  # the first makes the repository, the mirror and the environment
    origin = scene.data / "repos" / f"{_repo_id(scene, repo.name)}.git"
    scene.git(scene.root, "clone", "--quiet", "--mirror", f"file://{origin}", str(mirror))
    taken, floors = [], []
    for number in range(rounds):
        write(repo, {"change.txt": f"{number}\n"})
        (run,) = scene.push_and_wait(repo)
        taken.append(1000 * (scene.log_stored_at(run, LINE) - run.received))
        floors.append(1000 * _plain(scene, mirror, scene.git(repo, "rev-parse", "HEAD").strip(), after))
    return taken, floors


def _repo_id(scene: Scene, name: str) -> str:
    return str(scene.query("SELECT id FROM repos WHERE name = ?", name)[0][0])


def _plain(scene: Scene, mirror: Path, sha: str, command: str) -> float:
    """Seconds that plain git and a shell take to have the commit in a new folder and say something there."""
    folder = Path(tempfile.mkdtemp(dir=scene.root))
    began = time.perf_counter()
    scene.git(mirror, "fetch", "--quiet", "origin", sha)
    scene.git(scene.root, "clone", "--quiet", "--shared", "--no-checkout", str(mirror), str(folder))
    scene.git(folder, "checkout", "--quiet", "--detach", sha)
    subprocess.run(["sh", "-c", command], cwd=folder, env=scene.env, check=True, capture_output=True)
    took = time.perf_counter() - began
    (scene.root / "moved-away").mkdir(exist_ok=True)
    folder.rename(scene.root / "moved-away" / folder.name)  # deleting now would slow the next checkout on ext4
    return took


@contextmanager
def _package_index(folder: Path) -> Iterator[str]:
    """A package index with one tiny package, served on loopback."""
    name, version = "benchpkg", "1.0"
    info, wheel = f"{name}-{version}.dist-info", f"{name}-{version}-py3-none-any.whl"
    texts = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in texts.items()]
    (folder / name).mkdir(parents=True)
    with zipfile.ZipFile(folder / name / wheel, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    (folder / name / "index.html").write_text(f'<a href="{wheel}">{wheel}</a>')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
