"""Keeps Python environments by what they resolve to, and gives each job its own, linked from the kept one.

Code of strangers runs only through `Tools.run(confined=True)`, as the job's user: resolving (a setup.py may be asked)
and building. What is shared is installed by the runner itself from exact versions, wheels only, so nothing runs. A lock
that needs building makes an environment for its own repo and trust alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dstack.errors import Invalid
from dstack.wire.job import PythonSpec
from dstack_runner import argv
from dstack_runner.indexes import index_settings
from dstack_runner.inside import read_inside
from dstack_runner.interpreters import Interpreters
from dstack_runner.jobvenv import Interpreter, make_venv
from dstack_runner.requirements import Lock, read_lock, variables_in
from dstack_runner.resolutions import Resolutions
from dstack_runner.sources import Sources, gather
from dstack_runner.tools import Tools
from dstack_runner.turns import Turns
from dstack_runner.words import counted
from dstack_runner.workspace import remove_tree

RESOLUTION_S = 24 * 3600.0  # unpinned requirements are looked up again once a day
LOCK_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a job asks for: its spec, and where the files it names lie. `env` is what its build may see."""

    checkout: Path
    working_dir: str
    spec: PythonSpec
    repo: str
    trusted: bool
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Provided:
    """A job's own environment: its folder, and the folders it reads."""

    folder: Path
    interpreter: Interpreter
    reads: tuple[Path, ...]
    base: str  # key of the base it holds in use, or ""


class Environments:
    """Bases under `root/bases`, resolutions under `root/resolved`, downloads under `root/downloads`."""

    def __init__(self, root: Path, uv: Path, *, limit_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._uv = uv
        self._limit = limit_bytes
        self._clock = clock
        self._interpreters = Interpreters(uv)
        self._guard = threading.Lock()
        self._turns = Turns()
        self._uses: dict[str, int] = {}
        self._resolutions = Resolutions(root / "resolved")
        for name in ("bases", "downloads"):
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o755)

    def provide(self, wanted: Wanted, folder: Path, tools: Tools) -> Provided:
        """Make the job's environment in the new `folder`. Raises Invalid (the job's fault) or BuildFailed."""
        interpreter = self._interpreters.find(wanted.spec.version)
        sources = gather(wanted.checkout, wanted.working_dir, wanted.spec)
        lock = self._resolve(wanted, interpreter, sources, tools) if sources.asks else Lock()
        key = self._base(wanted, interpreter, lock, tools) if lock.pinned else ""
        base = self._root / "bases" / key if key else None
        try:
            make_venv(folder, interpreter, base=base, uv=self._uv)
            local = (*lock.local, *sources.projects)
            if local:
                self._install_local(wanted, folder, local, tools)
        except BaseException:
            self.release(key)
            raise
        return Provided(folder, interpreter, (interpreter.prefix, self._uv, *((base,) if base else ())), key)

    def tools_of(self, version: str | None) -> tuple[Path, ...]:
        """What making an environment for this Python version must be able to read. Raises Invalid."""
        return (self._interpreters.find(version).prefix, self._uv)

    def release(self, key: str) -> None:
        """The job that read this base has ended."""
        with self._guard:
            if key:
                self._uses[key] = max(0, self._uses.get(key, 0) - 1)

    def evict(self) -> int:
        """Delete the longest unused bases until all fit the limit; how many went."""
        kept = []
        for ready in (self._root / "bases").glob("*.json"):
            kept.append((ready.stat().st_mtime, _about(ready), ready))
        total, gone = sum(size for _, size, _ in kept), 0
        for _, size, ready in sorted(kept):
            if total <= self._limit:
                break
            with self._guard:
                if self._uses.get(ready.stem):
                    continue
                ready.unlink(missing_ok=True)  # from here on nobody takes it
            remove_tree(ready.with_suffix(""))
            total, gone = total - size, gone + 1
        return gone

    def _resolve(self, wanted: Wanted, interpreter: Interpreter, sources: Sources, tools: Tools) -> Lock:
        """Exact versions of everything asked for; from the record of an equal question where there is one."""
        settings = index_settings(wanted.env, variables_in(sources.options))
        question = _digest(
            "resolve-1", interpreter.version, str(interpreter.executable), *sources.fingerprint, *_flat(settings),
            # Resolving may run the checkout's own build code, which could answer what it likes: strangers' answers
            # are for their like.
            *(() if wanted.trusted else ("untrusted", wanted.repo)),
        )  # fmt: skip
        known = self._resolutions.find(question)
        if known and self._clock() - known[0] < RESOLUTION_S:
            return read_lock(known[1], sources.options)
        tools.say("resolving the requirements")
        code, text = self._ask(wanted, interpreter, sources, settings, tools)
        if code == 0:
            lock = read_lock(text, sources.options)
            self._resolutions.keep(question, self._clock(), text)
            return lock
        if known:
            tools.say("the requirements could not be looked up again: using the versions found before")
            return read_lock(known[1], sources.options)
        raise BuildFailed(f"the requirements could not be resolved (uv ended with {code}; see the log)")

    def _ask(
        self, wanted: Wanted, interpreter: Interpreter, sources: Sources, settings: Mapping[str, str], tools: Tools
    ) -> tuple[int, str]:
        cwd = wanted.checkout / wanted.working_dir
        env = {**wanted.env, **settings, **_private_cache(tools)}
        exported = []
        for project in sources.locks:
            code, out = tools.read(argv.uv_export(str(self._uv), project), env=env, cwd=cwd)
            if code != 0:
                return code, ""
            exported.append(out.decode(errors="replace"))
        if not sources.files and not sources.packages:
            return 0, "".join(exported)
        questions = [str(path) for path in sources.files]
        if exported or sources.packages:
            extra = tools.scratch / "requirements.in"
            extra.write_text("\n".join((*exported, *sources.packages)) + "\n")
            questions.append(str(extra))
        output = tools.scratch / "requirements.lock"
        output.unlink(missing_ok=True)
        words = argv.uv_compile(str(self._uv), str(interpreter.executable), questions, output)
        code = tools.run(words, env=env, cwd=cwd, confined=True, writable=tools.scratch)
        if code != 0:
            return code, ""
        return 0, read_inside(tools.scratch, output.name, LOCK_LIMIT).decode(errors="replace")

    def _base(self, wanted: Wanted, interpreter: Interpreter, lock: Lock, tools: Tools) -> str:
        """The key of a ready base with this lock, in use by the caller; built when there is none yet."""
        settings = index_settings(wanted.env, variables_in((*lock.options, *lock.pinned)))
        common = _digest("base-1", interpreter.version, str(interpreter.executable), lock.text, *_flat(settings))
        own = _digest(common, wanted.repo, "trusted" if wanted.trusted else "untrusted")
        for key in (common, own):
            if self._take(key):
                return key
        with self._turns.of(own if not lock.wheels_only else common, tools.check):
            for key in (common, own):
                if self._take(key):
                    return key  # another job built it while we waited
            return self._build(wanted, interpreter, lock, settings, (common, own), tools)

    def _build(
        self,
        wanted: Wanted,
        interpreter: Interpreter,
        lock: Lock,
        settings: Mapping[str, str],
        keys: tuple[str, str],
        tools: Tools,
    ) -> str:
        tools.say(f"making an environment of {counted(len(lock.pinned), 'package')} for Python {interpreter.version}")
        started = time.monotonic()
        for key, build in zip(keys, (False, True), strict=True):
            if not build and not lock.wheels_only:
                continue
            seen = {**wanted.env, **settings} if build else settings
            if self._install(key, interpreter, lock, seen, build, tools):
                tools.say(f"the environment is ready after {time.monotonic() - started:.1f} s and kept for later jobs")
                return key
            if not build:
                tools.say("not everything comes as a wheel: building as the job's user")
        raise BuildFailed("the requirements could not be installed (see the log)")

    def _install(
        self, key: str, interpreter: Interpreter, lock: Lock, env: Mapping[str, str], build: bool, tools: Tools
    ) -> bool:
        folder = self._root / "bases" / key
        if folder.exists():
            remove_tree(folder)  # half made by an earlier process
        make_venv(folder, interpreter, base=None, uv=None)
        pinned = folder / "requirements.lock"
        pinned.write_text(lock.text)
        words = argv.uv_install(
            str(self._uv), folder / "bin" / "python", lock=pinned, build=build, copy=not tools.shares_files
        )
        cache = _private_cache(tools) if build else {"UV_CACHE_DIR": str(self._root / "downloads")}
        if build:
            tools.lend(folder)
        env = {**env, **cache, "UV_INDEX_STRATEGY": "unsafe-best-match"}  # versions are exact: look everywhere
        code = tools.run(words, env=env, cwd=folder, confined=build, writable=folder)
        if code != 0:
            remove_tree(folder)
            return False
        size = _size(folder)
        tools.seal(folder)
        self._ready(key).write_text(json.dumps({"bytes": size}))  # last: without it the folder counts as half made
        return self._take(key)

    def _install_local(self, wanted: Wanted, venv: Path, lines: tuple[str, ...], tools: Tools) -> None:
        """Install the checkout's own packages into the job's environment, as the job's user."""
        tools.say(f"installing from the checkout: {', '.join(lines)}")
        tools.lend(venv)
        settings = index_settings(wanted.env, frozenset())
        words = argv.uv_install(str(self._uv), venv / "bin" / "python", lines=lines, build=True, copy=True)
        env = {**wanted.env, **settings, **_private_cache(tools)}
        cwd = wanted.checkout / wanted.working_dir
        if tools.run(words, env=env, cwd=cwd, confined=True, writable=venv) != 0:
            raise BuildFailed(f"could not install from the checkout: {', '.join(lines)} (see the log)")

    def _take(self, key: str) -> bool:
        ready = self._ready(key)
        with self._guard:
            if not ready.exists():
                return False
            os.utime(ready)
            self._uses[key] = self._uses.get(key, 0) + 1
            return True

    def _ready(self, key: str) -> Path:
        return self._root / "bases" / f"{key}.json"


class BuildFailed(Invalid):
    """uv could not resolve or install; the job's log says why. It may have been the network."""


def _private_cache(tools: Tools) -> dict[str, str]:
    return {"UV_CACHE_DIR": str(tools.scratch / "uv-cache")}


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:40]


def _flat(settings: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(settings.items())]


def _about(ready: Path) -> int:
    """Bytes of a base, from its record; a torn record counts as nothing and goes by its age alone."""
    try:
        return int(json.loads(ready.read_bytes())["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_symlink())
