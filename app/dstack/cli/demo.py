"""`dstack demo`: the whole loop on this machine, told by the commands a person would type.

It starts a server with its own fresh data folder and one runner, makes a sample training repository, pushes, changes
it, pushes again, and checks that every run did what it should.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dstack.cli import terminal
from dstack.demo import use_the_tag, write_project
from dstack.errors import DstackError

_EPOCHS = 20
_START_S = 60
_FIRST, _SECOND = ("prepare", "train", "evaluate"), ("train", "evaluate")

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exit", action="store_true", help="leave at the end, and remove the temporary folder, instead of serving on"
    )
    parser.add_argument("--port", type=int, default=0, help="port of the demo's server (default: a free one)")
    parser.add_argument("--folder", type=Path, help="keep everything in this new folder (default: a temporary one)")


def main(args: argparse.Namespace) -> int:
    began = time.monotonic()
    folder = _make_folder(args.folder)
    with _server(folder, args.port) as server:
        demo = Demo(server, folder / "digits")
        demo.play()
        for line in demo.problems:
            print(f"not as it should be: {line}", file=sys.stderr)
        took = time.monotonic() - began
        print(f"\nThe demo {'went wrong' if demo.problems else 'is done'} after {took:.0f} s.", flush=True)
        if not args.exit and not demo.problems:
            server.serve_on()
    if args.exit and args.folder is None and not demo.problems:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if demo.problems else 0


def _make_folder(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="dstack-demo-"))
    try:
        wanted.mkdir(parents=True)
    except FileExistsError:
        raise DstackError(f"{wanted} exists", "The demo wants a new folder.") from None
    return wanted.absolute()


@dataclass
class Server:
    """The demo's server, a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    sign_in: str
    env: dict[str, str]

    def serve_on(self) -> None:
        print(f"Serving on at {self.url} until Ctrl-C. Sign in: {self.sign_in}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            self.process.wait()


@contextlib.contextmanager
def _server(folder: Path, port: int) -> Iterator[Server]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DSTACK_", "GIT_"))}
    env |= {"DSTACK_ADMIN_TOKEN": secrets.token_urlsafe(32), "DSTACK_DATA": str(folder / "server")}
    for name in ("CONFIG", "STATE"):
        env[f"XDG_{name}_HOME"] = str(folder / name.lower())
    log_path = folder / "server.log"
    terminal.tell(f"Everything of this demo is in {folder}")
    terminal.tell(f"$ dstack server --port {port}")
    # In a group of its own: Ctrl-C is for this process, which then stops the server in order.
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dstack.cli.main", "server", "--port", str(port)],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            process_group=0,
        )
    try:
        yield _wait_until_ready(process, env, log_path)
    finally:
        process.send_signal(signal.SIGINT)  # stops what still runs, as Ctrl-C would
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _wait_until_ready(process: subprocess.Popen[bytes], env: dict[str, str], log_path: Path) -> Server:
    url = sign_in = ""
    assert process.stdout is not None
    for raw in process.stdout:
        line = raw.decode(errors="replace").strip()
        if line.startswith("dstack serves at "):
            url = line.rpartition(" ")[2]
        if line.startswith("Sign in with"):
            sign_in = line.rpartition(" ")[2]
            break
    if not sign_in:
        tail = log_path.read_text(errors="replace")[-2000:]
        raise DstackError(f"the demo's server did not start:\n{tail}", f"Its whole log is {log_path}.")
    client = {k: v for k, v in env.items() if k not in ("DSTACK_ADMIN_TOKEN", "DSTACK_DATA")}
    client |= {"DSTACK_SERVER": url, "DSTACK_TOKEN": env["DSTACK_ADMIN_TOKEN"]}
    print(f"The server is ready at {url}, one runner beside it.")
    return Server(process, url, sign_in, client)


@dataclass
class Demo:
    """The story, act by act; `problems` collects what was not as it should be."""

    server: Server
    repo: Path
    problems: list[str] = field(default_factory=list)

    def play(self) -> None:
        self._create()
        first = self._push("First: every workflow is new, so a push starts all three.")
        self._follow(first)
        self._run("dstack", "tags")
        self._change()
        second = self._push("Second: prepare has not changed, so only train and evaluate run, on the tagged data.")
        self._follow(second)
        _title("What came of it")
        self._run("dstack", "runs")
        self._run("git", "fetch", "--quiet", "dstack")
        self._run("git", "--no-pager", "log", "--notes=dstack", "--format=%C(auto)%h %s%n%N")
        self._check(first, second)
        self._addresses()

    def _create(self) -> None:
        _title("A training repository")
        self.repo.mkdir()
        write_project(self.repo)
        for name in (".dstack/workflows.yaml", ".dstack/variables.yaml", "prepare.py", "train.py", "evaluate.py"):
            print(f"  {name}")
        self._run("git", "init", "--quiet", "--initial-branch=main")
        for key, value in (("user.name", "Demo"), ("user.email", "demo@example.com")):
            self._run("git", "config", key, value, quiet=True)
        self._run("dstack", "lint")
        self._run("git", "add", ".")
        self._run("git", "commit", "--quiet", "-m", "Train a digit classifier")
        self._run("dstack", "init")

    def _change(self) -> None:
        _title("Train longer, on the tagged data")
        use_the_tag(self.repo, _EPOCHS)
        self._run("git", "--no-pager", "diff", "--unified=0")
        self._run("git", "commit", "--quiet", "-am", f"Train for {_EPOCHS} epochs on prepare:latest")

    def _push(self, title: str) -> list[str]:
        """Push, and answer the names of the runs it started, in order."""
        _title(title)
        known = {run["name"] for run in self._runs()}
        self._run("git", "push", "dstack", "main")
        return [run["name"] for run in reversed(self._runs()) if run["name"] not in known]

    def _follow(self, names: list[str]) -> None:
        for name in names:
            self._run("dstack", "logs", "--follow", name)

    def _addresses(self) -> None:
        _title("Look around")
        print(f"  sign in   {self.server.sign_in}")
        for what in ("", "tags", "runners"):
            print(f"  {what or 'runs':<8}  {self.server.url}/{what}")
        print(f"  code      {self.repo}")

    def _check(self, first: list[str], second: list[str]) -> None:
        """Whether everything that should have happened did."""
        runs = {run["name"]: run for run in self._runs()}
        for names, wanted in ((first, _FIRST), (second, _SECOND)):
            started = tuple(runs[name]["workflow"] for name in names)
            self._expect(started == wanted, f"the push started {started}, not {wanted}")
        for name, run in runs.items():
            why = f": {run['reason']}" if run["reason"] else ""
            self._expect(run["state"] == "succeeded", f"{run['workflow']} ({name}) is {run['state']}{why}")
            if run["workflow"] != "prepare":
                self._expect("accuracy" in run["metrics"], f"{run['workflow']} ({name}) has no accuracy")
        tagged = [run["workflow"] for run in runs.values() if "latest" in run["tags"]]
        self._expect(tagged == ["prepare"], f"the tag latest stands on {tagged}")
        notes = self._ask("git", "log", "--notes=dstack", "--format=%N")
        self._expect(all(name in notes for name in runs), "the Git notes do not name every run")

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)

    def _runs(self) -> list[Json]:
        found: list[Json] = json.loads(self._ask("dstack", "runs", "--json"))
        return found

    def _run(self, *words: str, quiet: bool = False) -> None:
        """Run a command where a person would see it; one that fails is a problem."""
        if not quiet:
            shown = " ".join(f'"{word}"' if " " in word else word for word in words)
            print(terminal.paint(f"$ {shown}", "bold", on=terminal.has_colour()), flush=True)
        code = subprocess.run(_argv(words), cwd=self.repo, env=self.server.env, check=False).returncode
        self._expect(code == 0, f"`{' '.join(words)}` ended with exit code {code}")

    def _ask(self, *words: str) -> str:
        done = subprocess.run(_argv(words), cwd=self.repo, env=self.server.env, check=True, stdout=subprocess.PIPE)
        return done.stdout.decode(errors="replace")


def _argv(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "dstack.cli.main", *words[1:]] if words[0] == "dstack" else list(words)


def _title(text: str) -> None:
    print(f"\n{terminal.paint(text, 'cyan', on=terminal.has_colour())}", flush=True)
