"""Environments made by a real uv from local wheels: kept by what they resolve to, never shared with what could harm."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from runner_server import FakeAttempt, FakeServer, until

from dstack.wire.job import Command, Job, PythonSpec
from dstack.wire.states import AttemptState, Reason
from dstack_runner.environments import Environments


def wheel(folder: Path, name: str, version: str, files: dict[str, str], scripts: str = "") -> Path:
    """A wheel written by hand: no build tool and no network needed."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    rows = []
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return target


BUILT = """
import os, zipfile
def build_wheel(folder, config=None, metadata=None):
    name = 'built-1.0-py3-none-any.whl'
    with zipfile.ZipFile(os.path.join(folder, name), 'w') as z:
        z.writestr('built.py', f'UID = {os.getuid()}')
        z.writestr('built-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: built\\nVersion: 1.0\\n')
        z.writestr('built-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
        z.writestr('built-1.0.dist-info/RECORD', '')
    return name
"""


def source_package(folder: Path) -> Path:
    """A package that must be built, by code of its own."""
    folder.mkdir()
    project = (
        '[project]\nname = "built"\nversion = "1.0"\n'
        '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
    )
    target = folder / "built-1.0.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for name, text in (
            ("pyproject.toml", project),
            ("back.py", BUILT),
            ("PKG-INFO", "Metadata-Version: 2.2\nName: built\nVersion: 1.0\n"),
        ):
            about = tarfile.TarInfo(f"built-1.0/{name}")
            about.size = len(text)
            archive.addfile(about, io.BytesIO(text.encode()))
    return target


class Index:
    """A package index over HTTP; `away` breaks it for a while."""

    def __init__(self, root: Path) -> None:
        self.asked = 0
        self.is_away = False
        index = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(root))

            def do_GET(self) -> None:
                index.asked += 1
                if index.is_away:
                    self.send_error(503)
                else:
                    super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    root = tmp_path_factory.mktemp("index")
    tool = "import leaf\ndef main(): print('tool with leaf', leaf.VERSION)\n"
    pages = {
        "leaf": [wheel(root / "leaf", "leaf", v, {"leaf.py": f"VERSION = '{v}'\n"}) for v in ("1.0", "1.1")],
        "tool": [wheel(root / "tool", "tool", "2.0", {"tool.py": tool}, "tool = tool:main")],
        "built": [source_package(root / "built")],
    }
    for name, wheels in pages.items():
        links = "".join(f'<a href="{w.name}">{w.name}</a>\n' for w in wheels)
        (root / name / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")
    served = Index(root)
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def run(site: FakeServer, index: Index, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeAttempt]:
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)

    def run(files: dict[str, str], *words: str, within_s: float = 40.0, **spec: object) -> FakeAttempt:
        job = Job(commands=(Command(argv=words),), python=PythonSpec(**spec), env=spec.pop("env", {}))  # type: ignore[arg-type]
        attempt = site.put(job, site.commit(files))
        until(lambda: attempt.finish is not None, within_s, f"the job ends: {attempt.text}")
        return attempt

    return run


PRINT = "import leaf, sys; print(leaf.VERSION, sys.prefix.endswith('/venv'))"


def test_an_environment_is_made_once_and_linked_then(run: Callable[..., FakeAttempt]) -> None:
    files = {"r.txt": "leaf==1.0\n"}
    first = run(files, "python", "-c", PRINT, requirements=("r.txt",))
    assert first.text.endswith("1.0 True\n") and "making an environment of 1 package " in first.text
    began = time.monotonic()
    second = run(files, "python", "-c", PRINT, requirements=("r.txt",))
    assert second.text == "1.0 True\n"  # no word of uv: it was not asked
    assert time.monotonic() - began < 3


def test_equal_locks_share_whatever_their_files_say(run: Callable[..., FakeAttempt]) -> None:
    run({"r.txt": "leaf<1.1\n"}, "python", "-c", PRINT, requirements=("r.txt",))
    other = run({"x/r.in": "# other words\nleaf ==1.0"}, "python", "-c", PRINT, requirements=("x/r.in",))
    assert "making an environment" not in other.text and other.text.endswith("1.0 True\n")
    newer = run({"r.txt": "leaf\n"}, "python", "-c", PRINT, requirements=("r.txt",))
    assert newer.text.endswith("1.1 True\n")


def test_commands_of_packages_run_by_the_jobs_own_python(run: Callable[..., FakeAttempt]) -> None:
    attempt = run({"a": ""}, "tool", packages=("leaf==1.1", "tool"))
    assert attempt.text.endswith("tool with leaf 1.1\n")
    attempt = run({"a": ""}, "sh", "-c", "head -1 $(which tool) && which python pip uv", packages=("leaf==1.1", "tool"))
    assert all("/venv/bin/" in line for line in attempt.text.splitlines()), attempt.text


def test_what_a_job_installs_or_breaks_reaches_no_other(run: Callable[..., FakeAttempt]) -> None:
    spoil = """
import leaf, os, subprocess
path = leaf.__file__
for attack in (lambda: open(path, 'w').write('VERSION = "evil"'), lambda: os.remove(path),
               lambda: os.chmod(path, 0o777), lambda: open(os.path.dirname(path) + '/sitecustomize.py', 'w')):
    try:
        attack()
        print('ALTERED')
    except OSError as error:
        print('refused')
subprocess.run(['pip', 'install', '-q', 'leaf==1.1'], check=True)
print(subprocess.run(['python', '-c', 'import leaf; print(leaf.VERSION)'], capture_output=True, text=True).stdout)
"""
    files = {"r.txt": "leaf==1.0\n", "spoil.py": spoil}
    attempt = run(files, "python", "spoil.py", requirements=("r.txt",))
    assert attempt.finish is not None and attempt.finish.state is AttemptState.SUCCEEDED, attempt.text
    assert "ALTERED" not in attempt.text and attempt.text.count("refused") == 4
    assert attempt.text.endswith("1.1\n\n")  # its own environment is its own to change
    assert run(files, "python", "-c", PRINT, requirements=("r.txt",)).text == "1.0 True\n"


def test_included_files_and_constraints_count(run: Callable[..., FakeAttempt]) -> None:
    files = {"r.txt": "-r more/base.txt\n-c limits.txt\n", "more/base.txt": "leaf\n", "limits.txt": "leaf<1.1\n"}
    assert run(files, "python", "-c", PRINT, requirements=("r.txt",)).text.endswith("1.0 True\n")
    files["limits.txt"] = "leaf>1.0\n"
    assert run(files, "python", "-c", PRINT, requirements=("r.txt",)).text.endswith("1.1 True\n")


def test_a_package_of_the_checkout_is_installed_for_each_job(run: Callable[..., FakeAttempt]) -> None:
    backend = (
        "import os, zipfile\n"
        "def _write(d):\n"
        "    print('built by', os.getuid())\n"
        "    name = 'mine-1-py3-none-any.whl'\n"
        "    here = os.getcwd()\n"
        "    with zipfile.ZipFile(os.path.join(d, name), 'w') as z:\n"
        "        z.writestr('mine.pth', here + '\\n')\n"
        "        z.writestr('mine-1.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n')\n"
        "        wheel = 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'\n"
        "        z.writestr('mine-1.dist-info/WHEEL', wheel)\n"
        "        z.writestr('mine-1.dist-info/RECORD', '')\n"
        "    return name\n"
        "def build_wheel(d, c=None, m=None): return _write(d)\n"
        "def build_editable(d, c=None, m=None): return _write(d)\n"
    )
    project = (
        '[project]\nname = "mine"\nversion = "1"\ndependencies = ["leaf<1.1"]\n'
        '[build-system]\nrequires = []\nbuild-backend = "back"\nbackend-path = ["."]\n'
    )
    for value in ("one", "two"):
        files = {"pyproject.toml": project, "back.py": backend, "mine.py": f"VALUE = '{value}'\n", "r.txt": "-e .\n"}
        for wanted in (("r.txt",), ("pyproject.toml",)):
            attempt = run(
                files, "python", "-c", "import mine, leaf; print(mine.VALUE, leaf.VERSION)", requirements=wanted
            )
            assert attempt.text.endswith(f"{value} 1.0\n"), attempt.text


@pytest.mark.parametrize("line", ["-r /etc/hostname", "-r ../../../../etc/hostname", "-r missing.txt"])
def test_files_outside_the_checkout_are_not_read(run: Callable[..., FakeAttempt], line: str) -> None:
    attempt = run({"r.txt": line + "\n"}, "true", requirements=("r.txt",))
    assert attempt.finish is not None
    assert (attempt.finish.state, attempt.finish.reason) == (AttemptState.FAILED, Reason.ENVIRONMENT)
    assert Path("/etc/hostname").read_text().strip() not in attempt.text


def test_what_cannot_be_resolved_says_so_in_the_log(run: Callable[..., FakeAttempt]) -> None:
    attempt = run({"r.txt": "leaf>9\n"}, "true", requirements=("r.txt",))
    assert attempt.finish is not None
    assert (attempt.finish.reason, attempt.finish.machine_fault) == (Reason.ENVIRONMENT, False)
    assert "leaf>9" in attempt.text.replace(" ", "")


def test_what_must_be_built_is_built_as_the_jobs_user_for_its_repo_alone(
    site: FakeServer, run: Callable[..., FakeAttempt]
) -> None:
    words = ("python", "-c", "import built; print(built.UID)")
    first = run({"r.txt": "built\n"}, *words, requirements=("r.txt",))
    uid = int(first.text.splitlines()[-1])
    assert uid >= 61000, first.text
    again = run({"r.txt": "built\n"}, *words, requirements=("r.txt",))
    assert again.text == f"{uid}\n"  # kept
    job = Job(commands=(Command(argv=words),), python=PythonSpec(requirements=("r.txt",)))
    other = site.put(job, site.commit({"r.txt": "built\n"}), repo="local/other")
    until(lambda: other.finish is not None)
    assert "building as the job's user" in other.text  # what another repo's build made is not trusted


def test_nothing_is_asked_of_the_index_when_all_is_kept(run: Callable[..., FakeAttempt], index: Index) -> None:
    files = {"r.txt": "leaf==1.1\ntool\n"}
    run(files, "tool", requirements=("r.txt",))
    asked, index.is_away = index.asked, True
    try:
        assert run(files, "tool", requirements=("r.txt",)).text == "tool with leaf 1.1\n"
    finally:
        index.is_away = False
    assert index.asked == asked


def test_the_longest_unused_environments_go_first(tmp_path: Path) -> None:
    kept = Environments(tmp_path, Path("/nonexistent/uv"), limit_bytes=250)
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / "bases" / name).mkdir()
        ready = tmp_path / "bases" / f"{name}.json"
        ready.write_text('{"bytes": 100}')
        os.utime(ready, (1000 - age, 1000 - age))
    assert kept.evict() == 1
    assert sorted(path.name for path in (tmp_path / "bases").iterdir()) == ["middle", "middle.json", "new", "new.json"]
    assert kept.evict() == 0
