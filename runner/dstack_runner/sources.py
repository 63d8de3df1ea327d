"""Reads from a checkout everything that decides what a job's environment holds."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import dataclass
from pathlib import Path

from dstack.errors import Invalid, NotFound
from dstack.wire.job import PythonSpec
from dstack_runner import requirements
from dstack_runner.inside import inside, read_inside

FILE_LIMIT = 16 * 1024 * 1024
MAX_FILES = 100


@dataclass(frozen=True, slots=True)
class Sources:
    """`files` go to the resolver; `locks` are folders whose uv.lock is taken as it stands; `packages` are lines.
    `projects` of the checkout are installed as they are. `fingerprint` changes when any answer could."""

    files: tuple[Path, ...] = ()
    locks: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    fingerprint: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        return bool(self.files or self.locks or self.packages)


def gather(checkout: Path, working_dir: str, spec: PythonSpec) -> Sources:
    """Follow a job's requirement files. Raises Invalid and NotFound naming the file at fault."""
    reader = _Reader(checkout, working_dir)
    for name in spec.requirements:
        kind = posixpath.basename(name)
        if kind == "uv.lock":
            reader.take_lock(name)
        elif kind.endswith(".toml"):
            reader.take_project(name)
        else:
            reader.files.append(inside(checkout, posixpath.join(working_dir, name)))
            reader.follow(name)
    for line in spec.packages:
        if not line.strip() or any(ord(letter) < 32 for letter in line):
            raise Invalid(f"{line!r} is not a requirement line")
    return Sources(
        tuple(reader.files), tuple(reader.locks), spec.packages, tuple(reader.projects),
        tuple(dict.fromkeys(reader.options)), (*reader.seen.values(), *spec.packages),
    )  # fmt: skip


class _Reader:
    def __init__(self, checkout: Path, working_dir: str) -> None:
        self._checkout = checkout
        self._base = working_dir
        self.files: list[Path] = []
        self.locks: list[Path] = []
        self.projects: list[str] = []
        self.options: list[str] = []
        self.seen: dict[str, str] = {}

    def follow(self, name: str) -> None:
        """Read a requirement file, those it includes, and what describes the folders it installs."""
        text = self._read(name)
        if text is None:
            return
        self.options.extend(requirements.index_options(text))
        folder = posixpath.dirname(name)
        for included in requirements.includes(text):
            if not included.startswith(("http://", "https://")):
                self.follow(posixpath.join(folder, included))
        for local in requirements.local_folders(text):
            for file in requirements.PROJECT_FILES:
                self._read(posixpath.join(local, file), optional=True)

    def take_project(self, name: str) -> None:
        text = self._read(name) or ""
        self.options.extend(requirements.project_index_options(text))
        self.files.append(inside(self._checkout, posixpath.join(self._base, name)))
        self._add_project(posixpath.dirname(name), text)

    def take_lock(self, name: str) -> None:
        self._read(name)
        folder = posixpath.dirname(name)
        text = self._read(posixpath.join(folder, "pyproject.toml")) or ""
        self.options.extend(requirements.project_index_options(text))
        self.locks.append(inside(self._checkout, posixpath.join(self._base, folder or ".")))
        self._add_project(folder, text)

    def _add_project(self, folder: str, pyproject: str) -> None:
        line = f"-e {'./' + folder if folder else '.'}"
        if requirements.has_build_system(pyproject) and line not in self.projects:
            self.projects.append(line)

    def _read(self, name: str, *, optional: bool = False) -> str | None:
        """The text of a file, noted in the fingerprint; None when read before (or optional and absent)."""
        place = posixpath.normpath(posixpath.join(self._base, name))
        if place in self.seen:
            return None
        if len(self.seen) >= MAX_FILES:
            raise Invalid(f"more than {MAX_FILES} requirement files include one another")
        try:
            data = read_inside(self._checkout, place, FILE_LIMIT)
        except NotFound:
            if optional:
                return None
            raise NotFound(f"requirements: {place} is not in the checkout") from None
        self.seen[place] = f"{place}:{hashlib.sha256(data).hexdigest()}"
        return data.decode("utf-8", "replace")
