"""A fake GitHub with an App installed, a receiver of its webhooks, and calls in the App's name: to test the fake."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import requests
from fake_github import App, FakeGitHub

REPO = "acme/vision"


class Receiver:
    """Keeps the webhooks that arrive; `status` is what it answers."""

    def __init__(self) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        self.status = 202
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.came.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(owner.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhooks/github"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(body) for headers, body in self.came if headers["x-github-event"] == name]

    @property
    def names(self) -> list[str]:
        return [headers["x-github-event"] for headers, _ in self.came]


class Scene:
    """A fake with an App installed on one repository, and calls in the installation's name."""

    def __init__(self, github: FakeGitHub, receiver: Receiver) -> None:
        self.github, self.receiver = github, receiver
        github.create_repo(REPO, files={"train.py": "print(1)\n", "docs/a.md": "a\n"})
        self.app: App = github.make_app(webhook_url=receiver.url)
        self.installation = github.install(self.app, "acme", [REPO])
        self.token = self.get_token()

    def jwt(self, app: App | None = None, **claims: int) -> str:
        now = int(time.time())
        who = app or self.app
        return jwt.encode({"iss": str(who.id), "iat": now - 30, "exp": now + 540, **claims}, who.pem, "RS256")

    def as_app(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.jwt()}"}
        return requests.request(method, self.github.api_url + path, headers=headers, timeout=20, **more)

    def get_token(self, **narrowed: Any) -> str:
        answer = self.as_app("POST", f"/app/installations/{self.installation}/access_tokens", json=narrowed or None)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["token"])

    def call(self, method: str, path: str, token: str | None = None, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token}", **more.pop("headers", {})}
        return requests.request(method, self.github.api_url + path, headers=headers, timeout=20, **more)

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def clone(self, folder: Path, token: str) -> subprocess.CompletedProcess[str]:
        address = self.github.url.replace("http://", f"http://x-access-token:{token}@") + f"/{REPO}.git"
        return git("clone", "-q", address, str(folder))


def git(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": "/nowhere",
           "GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "T",
           "GIT_COMMITTER_EMAIL": "t@example.org"}  # fmt: skip
    return subprocess.run(["git", *args], cwd=cwd, env=env, capture_output=True, text=True, check=False)
