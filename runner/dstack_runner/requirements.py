"""Reads requirement lines, pure: what a file includes, and what a resolved lock installs from where."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dstack.errors import Invalid

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*===?\s*[^\s;]+(\s*;.*)?")
_DIRECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*@\s*(?P<url>\S+)(\s*;.*)?")
_INCLUDE = re.compile(r"(?:-r|-c|--requirements?|--constraints?)(?:\s+|=)?(?P<path>[^\s#]+)")
_INDEX = re.compile(r"(?:-i|--index-url|--extra-index-url|-f|--find-links)(?:\s+|=)(?P<value>\S+)")
_VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")
PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True, slots=True)
class Lock:
    """A resolved environment. `pinned` lines are the same for everyone; `local` ones (`-e .`, `./pkg`) belong to the
    checkout and are installed for each job. `wheels_only` is False where something must be built, or read from this
    machine's files."""

    pinned: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    wheels_only: bool = True

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in (*self.options, *self.pinned))


def logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, continued ones joined."""
    joined = re.sub(r"\\\r?\n", " ", text.removeprefix("\ufeff"))
    for line in joined.splitlines():
        bare = re.sub(r"(^|\s+)#.*$", "", line).strip()
        if bare:
            yield re.sub(r"\s+", " ", bare)


def includes(text: str) -> tuple[str, ...]:
    """The files this one refers to by -r and -c."""
    found = (_INCLUDE.match(line) for line in logical_lines(text))
    return tuple(match["path"] for match in found if match)


def local_folders(text: str) -> tuple[str, ...]:
    """The folders of the checkout that this file installs (`-e .`, `./pkg`), as written without extras and `-e`."""
    found = []
    for line in logical_lines(text):
        if is_local(line):
            found.append(_folder(line))
    return tuple(found)


def is_local(line: str) -> bool:
    """Whether a requirement line names something on this machine."""
    direct = _DIRECT.fullmatch(line)
    if direct:
        return direct["url"].startswith("file:") or not re.match(
            r"(git\+|hg\+|svn\+)?https?://|git\+ssh://", direct["url"]
        )
    return bool(re.match(r"(-e|--editable)[\s=]", line)) or line.startswith((".", "/", "file:"))


def index_options(text: str) -> tuple[str, ...]:
    """The lines that say where packages come from."""
    return tuple(
        line for line in logical_lines(text) if _INDEX.match(line) or line.startswith(("--no-index", "--no-binary"))
    )


def project_index_options(pyproject: str) -> tuple[str, ...]:
    """The indexes named under [tool.uv] of a pyproject.toml, as option lines. Raises Invalid for bad TOML."""
    try:
        tool = tomllib.loads(pyproject).get("tool", {}).get("uv", {})
    except (tomllib.TOMLDecodeError, AttributeError) as error:
        raise Invalid(f"pyproject.toml cannot be read: {error}") from None
    found = [f"--index-url {tool['index-url']}"] if isinstance(tool.get("index-url"), str) else []
    for entry in tool.get("index", ()):
        url = entry.get("url") if isinstance(entry, dict) else None
        if isinstance(url, str) and not re.search(r"\s", url):
            found.append(f"{'--index-url' if entry.get('default') else '--extra-index-url'} {url}")
    return tuple(found)


def has_build_system(pyproject: str) -> bool:
    """Whether a project says how it is built: then it is itself installed, as `uv sync` would. Bad TOML says no."""
    try:
        data = tomllib.loads(pyproject)
    except tomllib.TOMLDecodeError:
        return False
    return "build-system" in data and "project" in data


def read_lock(text: str, options: Iterable[str] = ()) -> Lock:
    """Sort the lines of a resolved lock. The text may come from hostile code: what is not understood is refused."""
    pinned, local = [], []
    wheels_only = True
    chosen = tuple(dict.fromkeys(options))
    for option in chosen:
        match = _INDEX.match(option)
        if option.startswith("--no-binary") or (match and not match["value"].startswith(("http://", "https://", "${"))):
            wheels_only = False
    for line in logical_lines(text):
        bare = re.sub(r"( --hash=\w+:[0-9a-f]+)+$", "", line)
        if is_local(bare):
            local.append(_plain_local(bare))
        elif _INDEX.match(bare):
            continue  # the options come from the files themselves, where credentials are still names
        elif _PIN.fullmatch(bare) or _DIRECT.fullmatch(bare):
            wheels_only = wheels_only and "@ git+" not in bare and "@ hg+" not in bare and "@ svn+" not in bare
            pinned.append(line)
        else:
            raise Invalid(f"the resolved requirements hold a line that is not understood: {line[:200]}")
    return Lock(tuple(sorted(pinned)), tuple(local), chosen, wheels_only)


def variables_in(lines: Iterable[str]) -> frozenset[str]:
    """The environment variables that lines refer to as ${NAME}."""
    return frozenset(name for line in lines for name in _VARIABLE.findall(line))


def _plain_local(line: str) -> str:
    """A local line as an argument list can take it: `-e PATH` or `PATH`; a trailing marker is dropped."""
    bare = re.sub(r"\s;.*$", "", line)
    direct = _DIRECT.fullmatch(bare)
    if direct:
        return direct["url"]
    return re.sub(r"^(-e|--editable)[\s=]+", "-e ", bare)


def _folder(line: str) -> str:
    plain = _plain_local(line).removeprefix("-e ")
    return re.sub(r"\[[^\]]*\]$", "", plain.removeprefix("file://"))
