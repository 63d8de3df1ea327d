"""A whole installation under test: one server, its runners, a person with a repository, and the questions tests ask."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import requests
from history import Heard, Ledger
from machines import ADMIN_TOKEN, Runner, Server, own_env, until
from tcp_proxy import TcpProxy

FINAL = ("succeeded", "failed", "stopped", "skipped")
Json = dict[str, Any]
_PUSHES = count(1)
RUNNING: list[Site] = []  # those whose processes a failed test shows


class Site:
    """Everything lies below `root`; `close` ends all of it."""

    def __init__(self, root: Path, *, lease_s: int | None = None, runner: bool = False, **env: str) -> None:
        self.root = root
        if lease_s is not None:
            env["DSTACK_LEASE_S"] = str(lease_s)
        self.server = Server(root, runner=runner, **env)
        self.runners: list[Runner] = []
        self.proxies: list[TcpProxy] = []
        self.heard = Heard()
        self.ledger = Ledger(self.server.data)
        self.home = root / "home"
        self.home.mkdir()
        (self.home / "gitconfig").write_text("[user]\nname = T\nemail = t@example.org\n[init]\ndefaultBranch = main\n")
        self.env = own_env(self.home, DSTACK_SERVER=self.server.url, DSTACK_TOKEN=ADMIN_TOKEN, DSTACK_DEBUG="1")
        self._http = requests.Session()
        self._http.trust_env = False

    def start(self) -> Site:
        RUNNING.append(self)
        self.server.start()
        self.ledger.open()
        return self

    def close(self) -> None:
        RUNNING.remove(self)
        for runner in self.runners:
            runner.kill()
        self.server.kill()
        for proxy in self.proxies:
            proxy.close()
        self._http.close()

    def proxy(self) -> TcpProxy:
        """A proxy before the server, whose traffic is heard."""
        proxy = TcpProxy(("127.0.0.1", self.server.port), self.heard).start()
        self.proxies.append(proxy)
        return proxy

    def runner(self, name: str = "r1", *, url: str = "", **settings: Any) -> Runner:
        """A runner, started and online."""
        runner = Runner(self.root, url or self.server.url, name, **settings)
        self.runners.append(runner)
        runner.spawn()
        self.until_online(name)
        return runner

    def until_online(self, name: str) -> None:
        def is_online() -> bool:
            states = {runner["name"]: runner["state"] for runner in self.get("/runners")}
            return states.get(name) == "online"

        until(is_online, 30, f"{name} is online; it says:\n{self.said()}")

    def said(self, count: int = 3000) -> str:
        """The end of every process's output."""
        machines = [self.server, *self.runners]
        return "\n".join(f"--- {machine.name} ({machine.code}):\n{machine.text[-count:]}" for machine in machines)

    # The API

    def call(self, method: str, path: str, body: object = None, *, token: str = ADMIN_TOKEN) -> requests.Response:
        return self._http.request(
            method, f"{self.server.url}/api/v1{path}", json=body, timeout=70,
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: object = None, status: int = 200) -> Any:
        answer = self.call("POST", path, body if body is not None else {})
        assert answer.status_code == status, answer.text
        return answer.json()

    def run(self, name: str) -> Json:
        return dict(self.get(f"/runs/{name}"))

    def runs(self, **filters: str) -> list[Json]:
        """Newest first."""
        query = "&".join(f"{key}={value}" for key, value in {"limit": "500", **filters}.items())
        return list(self.get(f"/runs?{query}")["runs"])

    def wait(self, name: str, within_s: float = 45.0) -> Json:
        """The run at its end, however often the server goes away meanwhile."""
        deadline = time.monotonic() + within_s
        run: Json = {}
        while time.monotonic() < deadline:
            left = max(1, min(20, int(deadline - time.monotonic())))
            try:
                answer = self.call("GET", f"/runs/{name}/wait?timeout_s={left}")
                run = answer.json() if answer.status_code == 200 else run
            except requests.RequestException:
                time.sleep(0.1)
                continue
            if run.get("state") in FINAL:
                return run
        raise AssertionError(f"{name} has not ended within {within_s} s: {run}\n{self.said()}")

    def wait_all(self, within_s: float = 60.0) -> list[Json]:
        """Every run at its end, newest first."""
        deadline = time.monotonic() + within_s
        for run in self.runs():
            self.wait(run["name"], max(1.0, deadline - time.monotonic()))
        return self.runs()

    def until_state(self, name: str, *states: str, within_s: float = 30.0) -> Json:
        def seen() -> Json | None:
            run = self.run(name)
            return run if run["state"] in states else None

        what = f"{name} is {' or '.join(states)}; {self.said(1500)}"
        return until(seen, within_s, what, closely=True)  # type: ignore[return-value]

    def log(self, name: str) -> bytes:
        answer = self.call("GET", f"/runs/{name}/log")
        assert answer.status_code == 200, answer.text
        return answer.content

    def until_logged(self, name: str, text: str, within_s: float = 30.0) -> None:
        until(lambda: text.encode() in self.log(name), within_s, f"{name} logs {text!r}\n{self.said(1500)}")

    def attempts(self, name: str) -> list[Json]:
        """All attempts of a run, oldest first, from the database."""
        rows = self.ledger.rows(
            "SELECT a.* FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN runs r ON r.id = j.run_id "
            "WHERE r.name = ? ORDER BY j.position, a.number",
            name,
        )
        return [dict(row) for row in rows]

    def assert_sound(self) -> None:
        """Once every run has ended: kill the server as a power cut would, and find nothing wrong in what it left."""
        self.server.kill()
        problems = self.ledger.check(self.heard)
        assert not problems, "\n".join(problems)

    # The command and Git

    def cli(self, *words: str, cwd: Path | None = None, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run `dstack WORDS`; its exit code must be `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "dstack.cli.main", *words], cwd=cwd or self.home, env=self.env | env,
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, f"dstack {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def cli_json(self, *words: str, cwd: Path | None = None) -> Any:
        return json.loads(self.cli(*words, "--json", cwd=cwd).stdout)

    def clone_url(self, repo: str) -> str:
        return f"http://x:{ADMIN_TOKEN}@127.0.0.1:{self.server.port}/git/{repo}.git"


class Repository:
    """A person's working tree, with the server as its remote `dstack`."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.path = site.root / "trees" / name.replace("/", "-")
        self.path.mkdir(parents=True)
        self.git("init", "-q")
        self.git("remote", "add", "dstack", site.clone_url(name))

    def git(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.path, env=self.site.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == code, f"git {words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout.strip() + ("\n" + done.stderr if words[0] == "push" else "")

    def write(self, files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: dict[str, str | bytes], message: str = "x") -> str:
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *refs: str) -> str:
        """What git and the server said."""
        return self.git("push", "-q", "dstack", *(refs or ("HEAD",)))

    def push_workflow(self, commands: str, extra: str = "", *, name: str = "job", message: str = "x") -> str:
        """Commit one bash workflow that every push starts, push it, and answer its run's name. Another file changes
        too: a push of the same work would take over the result of the one before."""
        files = {".dstack/workflows.yaml": bash_workflow(name, commands, extra), "pushed.txt": str(next(_PUSHES))}
        sha = self.commit(files, message)
        said = self.push()
        runs = [run for run in self.site.runs(sha=sha) if run["workflow"] == name]
        assert runs, said
        return str(runs[0]["name"])


def bash_workflow(name: str, commands: str, extra: str = "") -> str:
    lines = "\n".join(f"        {line}" for line in commands.strip().splitlines())
    more = "".join(f"    {line}\n" for line in extra.strip().splitlines())
    return f"workflows:\n  - name: {name}\n    provider: bash\n    on: push\n    commands:\n      - |\n{lines}\n{more}"
