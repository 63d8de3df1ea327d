"""Starts, finds and ends the one background server of this user on loopback; serving itself is `dstack server`'s."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dstack.cli import output
from dstack.cli.config_file import load_sign_ins, store_sign_in, xdg_folder
from dstack.client import Transport
from dstack.errors import DstackError, Unavailable, Unreachable

HOST = "127.0.0.1"
PORT = 3000
START_LIMIT_S = 60.0
STOP_LIMIT_S = 40.0
POLL_S = 0.05
_children: list[subprocess.Popen[bytes]] = []  # held so that letting go of a running server is no warning


class LocalServer(NamedTuple):
    """A background server as its state file tells. `born` is the process's start time in clock ticks since boot: a
    process of the same id with another birth is a stranger."""

    pid: int
    born: int
    url: str
    log: str

    @property
    def is_alive(self) -> bool:
        return self.born == birth_of(self.pid)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    if parser.get_default("command") == "server start":
        parser.add_argument("--port", type=int, help=f"port on loopback (default {PORT}, or a free one)")
    elif parser.get_default("command") == "server status":
        output.add_json(parser)


def main(args: argparse.Namespace) -> int:
    return {"server start": _start, "server status": _status, "server stop": _stop}[args.command](args)


def ensure_running(port: int | None = None) -> tuple[str, str]:
    """The address and token of this user's server, started first where it does not run.

    Raises Unavailable with the end of its log when it does not come up.
    """
    with _lock():
        known = read_state()
        if known is not None and known.is_alive:
            _wait_until_ready(known)
        else:
            known = _spawn(port or _port_of(known) or _choose_port())
        token = load_sign_ins().token_for(known.url)
    if not token:
        raise DstackError(
            f"the server at {known.url} runs, but its token is not stored",
            "Stop it with `dstack server stop` and start it again.",
        )
    return known.url, token


def serving_argv(port: int) -> list[str]:
    """The command that serves."""
    return [sys.executable, "-m", "dstack.cli.main", "server", "--host", HOST, "--port", str(port)]


def is_ours_and_ended(url: str) -> bool:
    """Whether the address is that of the background server, and it does not run any more."""
    known = read_state()
    return known is not None and known.url == url and not known.is_alive


def read_state() -> LocalServer | None:
    try:
        data = json.loads(_state_path().read_bytes())
        return LocalServer(int(data["pid"]), int(data["born"]), str(data["url"]), str(data["log"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def birth_of(pid: int) -> int | None:
    """When a process was started (clock ticks since boot), None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _start(args: argparse.Namespace) -> int:
    url, _ = ensure_running(args.port)
    print(f"The server is at {url}; its log is {_log_path()}")
    return 0


def _status(args: argparse.Namespace) -> int:
    known = read_state()
    alive = known is not None and known.is_alive
    if args.json:
        shown = known._asdict() if known is not None and alive else {}
        output.print_json({"running": alive, **{k: v for k, v in shown.items() if k != "born"}})
    elif known is not None and alive:
        print(f"running at {known.url} (process {known.pid}); its log is {known.log}")
    else:
        print("not running; start it with `dstack server start`")
    return 0 if alive else 6


def _stop(args: argparse.Namespace) -> int:
    with _lock():
        known = read_state()
        if known is None or not known.is_alive:
            print("no server of yours runs in the background")
            return 0
        os.kill(known.pid, signal.SIGTERM)
        if not _wait_for_end(known, STOP_LIMIT_S):
            os.kill(known.pid, signal.SIGKILL)
            _wait_for_end(known, 5)
            output.warn(f"the server did not end within {STOP_LIMIT_S:.0f} s and was killed")
    print(f"The server at {known.url} has ended")
    return 0


def _spawn(port: int) -> LocalServer:
    url, log = f"http://{HOST}:{port}", _log_path()
    token = load_sign_ins().token_for(url) or secrets.token_urlsafe(32)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = {
        k: v for k, v in os.environ.items() if not k.startswith("GIT_") and k not in ("DSTACK_SERVER", "DSTACK_TOKEN")
    }
    env["DSTACK_ADMIN_TOKEN"] = token
    with open(log, "ab", opener=_private) as out:
        process = subprocess.Popen(
            serving_argv(port),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            cwd="/",
            start_new_session=True,
        )
    _children.append(process)
    started = LocalServer(process.pid, birth_of(process.pid) or 0, url, str(log))
    _write_state(started)
    _wait_until_ready(started)
    store_sign_in(url, token)
    return started


def _wait_until_ready(server: LocalServer) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if not server.is_alive:
            break
        try:
            Transport(server.url, sleep=lambda _: None).call("GET", "/healthz", timeout_s=5)
            return
        except (Unreachable, Unavailable):
            time.sleep(POLL_S)
    raise Unavailable(f"the server at {server.url} did not come up", f"The end of {server.log}:\n{_tail(server.log)}")


def _wait_for_end(server: LocalServer, limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while server.is_alive and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return not server.is_alive


def _choose_port() -> int:
    """The usual port, or a free one where another program has it."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Unavailable("no port of this machine is free")


def _port_of(known: LocalServer | None) -> int | None:
    return None if known is None else Transport(known.url).address.port


def _write_state(server: LocalServer) -> None:
    fresh = _state_path().with_suffix(".new")
    with open(fresh, "w", opener=_private) as file:
        json.dump(server._asdict(), file)
    fresh.replace(_state_path())


@contextmanager
def _lock() -> Iterator[None]:
    """Two commands that find no server at the same moment start one, not two."""
    folder = xdg_folder("XDG_STATE_HOME", ".local/state")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "server.lock", "w", opener=_private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _state_path() -> Path:
    return xdg_folder("XDG_STATE_HOME", ".local/state") / "server.json"


def _log_path() -> Path:
    return xdg_folder("XDG_STATE_HOME", ".local/state") / "server.log"


def _tail(path: str) -> str:
    try:
        return "\n".join(Path(path).read_text(errors="replace").splitlines()[-15:])
    except FileNotFoundError:
        return "(there is none)"
