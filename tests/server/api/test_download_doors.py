"""What leaves the server as bytes: files of artifacts, logs, the wheel; all of it written by strangers but the last."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from served_api import Api, Held, wait_for

from dstack.providers.base import ResolvedWorkflow
from dstack.providers.exchange import dump_workflow
from dstack.server.models.token import TokenKind
from dstack.server.services.build_wheel import WHEEL
from dstack.version import __version__

HOSTILE = {
    "out/page.html": b"<script>alert(1)</script>",
    "out/image.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "out/data.xml": b"<?xml version='1.0'?><x/>",
    "out/none": b"<html>",
    'out/"quoted"; filename=x.exe': b"x",
    "out/new\u2028line \u202e.txt": b"x",
    "out/empty": b"",
    "out/big": bytes(range(256)) * 4000,
}


@pytest.fixture(scope="module")
def held(api: Api) -> Held:
    held = api.attempt()
    held.save("out", HOSTILE)
    held.log(b"<script>alert(1)</script>\n\x1b]8;;http://evil.example\x07link\x1b]8;;\x07\n")
    held.end()
    return held


@pytest.fixture(scope="module")
def artifact(api: Api, held: Held) -> str:
    return api.ok("GET", f"/api/v1/runs/{held.run}/artifacts")[0]["id"]


@pytest.fixture(scope="module")
def cookies(api: Api) -> dict[str, str]:
    return {"dstack_session": api.token(TokenKind.SESSION)}


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize("door", ["api", "pages"])
def test_a_file_is_a_download_whatever_it_is(
    api: Api, artifact: str, cookies: dict[str, str], path: str, door: str
) -> None:
    """B79: never shown as a page of this server."""
    if door == "api":
        answer = api.call("GET", f"/api/v1/artifacts/{artifact}/files/{path}")
    else:
        answer = api.call("GET", f"/artifacts/{artifact}/files/{path}", None, cookies=cookies)
    assert (answer.status_code, answer.content) == (200, HOSTILE[path])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "\n" not in answer.headers["content-disposition"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


RANGES = [
    ("bytes=0-0", 206, (0, 1)), ("bytes=10-19", 206, (10, 20)), ("bytes=-5", 206, (-5, None)),
    ("bytes=5-", 206, (5, None)),
    ("bytes=0-99999999", 206, (0, None)), ("bytes=10-5", 416, None), ("bytes=1024000-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=a-b", 416, None), ("bytes=", 416, None), ("bytes=--1", 416, None), ("bytes=1-2-3", 416, None),
    ("bytes=" + "0-1," * 10_000 + "0-1", 416, None), ("bytes=0-" + "9" * 40, 416, None), ("lines=1-2", 200, (0, None)),
    ("bytes=0-1,5-6", 200, (0, None)), ("nonsense", 200, (0, None)),
]  # fmt: skip


@pytest.mark.parametrize(("header", "status", "span"), RANGES, ids=lambda part: str(part)[:30])
def test_ranges(api: Api, artifact: str, header: str, status: int, span: tuple[int, int | None] | None) -> None:
    """B80."""
    whole = HOSTILE["out/big"]
    begun = time.monotonic()
    answer = api.call("GET", f"/api/v1/artifacts/{artifact}/files/out/big", headers={"Range": header})
    assert time.monotonic() - begun < 2
    assert answer.status_code == status
    if span is not None:
        assert answer.content == whole[slice(*span)]
    elif status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(whole)}"


@pytest.mark.parametrize("path", ["out", "out/", "absent", "../out/none", "out/../out/none", "/etc/passwd", "%00"])
def test_only_the_artifacts_own_files_are_there(api: Api, artifact: str, cookies: dict[str, str], path: str) -> None:
    assert api.raw("GET", f"/api/v1/artifacts/{artifact}/files/{path}", "admin-token-for-tests") == 404
    assert api.raw("GET", f"/artifacts/{artifact}/files/{path}", None) in (303, 404)


def test_a_whole_artifact_is_a_tar_of_plain_files(api: Api, artifact: str, cookies: dict[str, str]) -> None:
    answer = api.call("GET", f"/artifacts/{artifact}/tar", None, cookies=cookies)
    assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        assert {name: file.read() for name, file in found.items() if file} == HOSTILE


def test_a_log_is_text_and_nothing_else(api: Api, held: Held, cookies: dict[str, str]) -> None:
    """B84."""
    answer = api.call("GET", f"/api/v1/runs/{held.run}/log")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = api.call("GET", f"/runs/{held.run}", None, cookies=cookies).text
    assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
    assert "\x1b" not in page and 'href="http://evil.example' not in page


def test_the_log_of_another_job_is_absent(api: Api, held: Held) -> None:
    """B89."""
    assert api.call("GET", f"/api/v1/runs/{held.run}/log?job=nope").status_code == 404
    assert api.call("GET", f"/api/v1/runs/{held.run}/log?job=").status_code == 200
    assert api.call("GET", "/api/v1/runs/brave-otter-1/log").status_code == 404


def test_a_followed_log_comes_as_it_grows_and_ends_with_the_run(api: Api) -> None:
    held = api.attempt()
    held.state("running")
    held.log(b"first\n")
    got: list[bytes] = []

    def follow() -> None:
        with api.call("GET", f"/api/v1/runs/{held.run}/log?follow=1", stream=True) as answer:
            got.extend(answer.iter_content(None))

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    wait_for(lambda: b"".join(got) == b"first\n")
    held.log(b"second\n", 6)
    wait_for(lambda: b"".join(got) == b"first\nsecond\n")
    assert reader.is_alive()
    held.log(b"last\n", 13)
    held.ok("POST", "finish", json={"state": "succeeded", "exit_code": 0, "log_bytes": 18})
    reader.join(10)
    assert not reader.is_alive() and b"".join(got) == b"first\nsecond\nlast\n"


def test_a_followed_log_goes_on_with_the_next_attempt(api: Api) -> None:
    runner = api.runner()
    first = api.attempt(runner=runner)
    first.state("running")
    first.log(b"one\n")
    first.ok("POST", "finish", json={"state": "preempted", "reason": "preempted"})
    second = runner.take(first.run)
    second.state("running")
    second.log(b"two\n")
    second.ok("POST", "finish", json={"state": "succeeded", "exit_code": 0})
    assert api.call("GET", f"/api/v1/runs/{first.run}/log?follow=1").content == b"one\ntwo\n"
    assert api.call("GET", f"/api/v1/runs/{first.run}/log?offset=6").content == b"o\n"


# The wheel


def test_the_wheel_is_the_provider_api_and_installs_alone(api: Api, tmp_path: Path) -> None:
    """An author's provider imports exactly this server's version, with nothing beside it."""
    address = f"{api.url}/wheels/{WHEEL}"
    first, second = api.call("GET", f"/wheels/{WHEEL}", None), api.call("GET", f"/wheels/{WHEEL}", None)
    assert first.status_code == 200 and first.content == second.content
    with zipfile.ZipFile(io.BytesIO(first.content)) as wheel:
        assert wheel.testzip() is None
        assert not any(name.startswith(("dstack/server", "dstack/cli")) for name in wheel.namelist())
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache"),
                   "UV_OFFLINE": "0", "UV_NO_CONFIG": "1"}  # fmt: skip
    uv = Path(sys.executable).with_name("uv")

    def run(*argv: str | Path) -> str:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    run(uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    run(uv, "pip", "install", "-q", "--no-deps", "--no-index", "--python", python, f"dstack-ci @ {address}")
    script = (
        "from dstack import Provider, Job, Resources, Gpu; from dstack.version import __version__;"
        "import dstack, sys; assert 'site-packages' in dstack.__file__, dstack.__file__;"
        "assert 'pydantic' not in sys.modules; print(__version__)"
    )
    assert run(python, "-I", "-c", script) == __version__
    (tmp_path / "mine.py").write_text(
        "from dstack import Command, Job, Provider\n"
        "class Mine(Provider):\n"
        "    def jobs(self, workflow):\n"
        "        return [Job(commands=(Command(shell='true'),), name=workflow.name)]\n"
    )
    environment["DSTACK_WORKFLOW_JSON"] = dump_workflow(ResolvedWorkflow("tune", "mine"))
    made = json.loads(run(python, "-m", "dstack.providers.run", "mine"))
    assert "tune" in json.dumps(made)


@pytest.mark.parametrize("name", ["other-1.0-py3-none-any.whl", "dstack.db", WHEEL + "x", "x" * 3000])
def test_there_is_no_other_wheel(api: Api, name: str) -> None:
    answer = api.call("GET", f"/wheels/{name}", None)
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
