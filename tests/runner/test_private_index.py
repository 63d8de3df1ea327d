"""Environments from an index that asks for a password: a secret opens it, and the secret shows nowhere."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from runner_server import FakeAttempt, FakeServer, until
from test_environments import wheel

from dstack.wire.job import Command, Job, PythonSpec
from dstack.wire.states import AttemptState, Reason

PASSWORD = "canary-index-7d0c-password"


@pytest.fixture
def private_url(tmp_path: Path) -> Iterator[str]:
    root = tmp_path / "index"
    made = wheel(root / "leaf", "leaf", "3.0", {"leaf.py": "VERSION = '3.0'\n"})
    (root / "leaf" / "index.html").write_text(f'<!DOCTYPE html><a href="{made.name}">{made.name}</a>')
    wanted = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(root))

        def do_GET(self) -> None:
            if self.headers.get("Authorization") == wanted:
                super().do_GET()
                return
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://ada:{PASSWORD}@127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def run(site: FakeServer, secrets: dict[str, str]) -> FakeAttempt:
    job = Job(
        commands=(Command(argv=("python", "-c", "import leaf; print('leaf', leaf.VERSION)")),),
        python=PythonSpec(requirements=("r.txt",)),
        secrets=tuple(secrets),
    )
    attempt = site.put(job, site.commit({"r.txt": "leaf==3.0\n"}), secrets=secrets)
    until(lambda: attempt.finish is not None, 40, f"the job ends: {attempt.text}")
    return attempt


def test_a_secret_opens_a_private_index_and_shows_nowhere(
    site: FakeServer, private_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", private_url.replace(f"ada:{PASSWORD}@", ""))
    shut = run(site, {})
    assert shut.finish is not None
    assert (shut.finish.state, shut.finish.reason) == (AttemptState.FAILED, Reason.ENVIRONMENT), shut.text
    opened = run(site, {"UV_DEFAULT_INDEX": private_url})
    assert opened.finish is not None and opened.finish.state is AttemptState.SUCCEEDED, opened.text
    assert opened.text.endswith("leaf 3.0\n")
    assert PASSWORD not in opened.text and PASSWORD not in repr(opened.finish)
    live = site.repo.parent / "runner" / "live"
    deadline = time.monotonic() + 20
    while any(live.iterdir()) and time.monotonic() < deadline:  # the runner clears up after it has told the end
        time.sleep(0.02)
    assert not list(live.iterdir())
    kept = [path for path in (site.repo.parent / "runner").rglob("*") if path.is_file() and not path.is_symlink()]
    assert kept and not [path for path in kept if PASSWORD.encode() in path.read_bytes()]
