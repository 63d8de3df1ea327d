"""Names, paths and keys as a workflow may spell them; each parser returns the word in one form or raises Wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

from dstack.language.problems import nearest
from dstack.language.quantities import Wrong

E = TypeVar("E", bound=StrEnum)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}\Z")
_ENV_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9._-]{1,100}\Z")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}\Z")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?\Z", re.ASCII)
_PYTHON = re.compile(r"3\.\d{1,2}(\.\d{1,3})?\Z")

# The runner sets these, or they would change what its own programs do; a job's files may still set them for themselves.
RESERVED_ENV = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "OLDPWD", "IFS", "ENV", "BASH_ENV", "TMPDIR", "VIRTUAL_ENV",
    "PYTHONHOME", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES",
})  # fmt: skip
RESERVED_ENV_PREFIXES = ("LD_", "DYLD_", "GIT_", "DSTACK_")


def is_reserved_env(key: str) -> bool:
    return key.upper() in RESERVED_ENV or key.upper().startswith(RESERVED_ENV_PREFIXES)


def parse_name(text: str) -> str:
    """A workflow, tag or provider name: letters, digits, `.`, `_`, `-`, at most 100, a letter or digit first."""
    if not _NAME.match(text):
        raise Wrong()
    return text


def parse_variable(text: str) -> str:
    """The name of a variable; those that hide an expression's own name, or a reserved environment key, are refused."""
    if not _VARIABLE.match(text):
        raise Wrong()
    if text.lower() in ("repo", "sha", "branch", "trigger", "attempt"):
        raise Wrong(message=f'"{text}" is a name that expressions know already: choose another')
    if is_reserved_env(text.replace("-", "_")):
        raise Wrong(message=f'"{text}" would reach the job as a reserved environment variable: choose another name')
    return text


def parse_env_key(text: str) -> str:
    """The key of an environment variable that a job may be given."""
    if not _ENV_KEY.match(text):
        raise Wrong()
    if is_reserved_env(text):
        raise Wrong("set it inside the command if you must", f'"{text}" is reserved')
    return text


def parse_repo(text: str) -> str:
    """`owner/name`."""
    if not _REPO.match(text) or text.endswith((".git", "/.", "/..")):
        raise Wrong("owner/name, without an address" if "://" in text or text.endswith(".git") else "")
    return text


def parse_ref(text: str) -> str:
    """A branch, tag or commit of a repository: never an option, never a range."""
    if not _REF.match(text) or ".." in text or text.endswith((".lock", "/", ".")) or "//" in text or "/." in text:
        raise Wrong()
    return text


def parse_module(text: str) -> str:
    """A Python module, with `:Class` or without."""
    if not _MODULE.match(text):
        raise Wrong()
    return text


def parse_plain_module(text: str) -> str:
    if ":" in text:
        raise Wrong()
    return parse_module(text)


def parse_python(text: str) -> str:
    """A Python version, `3.11` or `3.11.7`."""
    if not _PYTHON.match(text):
        raise Wrong()
    return text


def parse_path(text: str) -> str:
    """A relative path or glob that stays inside the checkout, with `./` and a trailing `/` taken off."""
    if text.startswith(("/", "~")):
        raise Wrong("leave out the leading " + text[0])
    if "\\" in text or re.match(r"[A-Za-z]:", text):
        raise Wrong("separate folders with /")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Wrong("it must stay inside the repository")
    if parts and parts[0].lower() == ".git":
        raise Wrong(".git is not part of the checkout")
    if text.startswith("-") or len(text.encode()) > 4096 or any(len(part.encode()) > 255 for part in parts):
        raise Wrong('put "./" before a leading "-"' if text.startswith("-") else "")
    joined = "/".join(parts)
    return ("./" + joined if joined.startswith("-") else joined) or "."


def parse_cache_path(text: str) -> str:
    """A folder to keep between jobs: under `~/`, or relative to the checkout."""
    if text in ("~", "~/"):
        raise Wrong("name a folder below it")
    return "~/" + parse_path(text[2:]) if text.startswith("~/") else parse_path(text)


def parse_web_address(text: str) -> str:
    """An https address with a host, and no user name or password in it. Raises Wrong."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or len(text) > 2048 or any(c <= " " or c in '<>"\\' for c in text):
        raise Wrong("https://HOST/..., better kept in a secret and named here")
    return text


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """A parser of a fixed list of words; spelling with `_` for `-` is the same word."""

    def parse(text: str) -> str:
        for name in names:
            if text.replace("_", "-") == name.replace("_", "-"):
                return name
        raise Wrong(nearest(text, names))

    return parse


def member_of(kind: type[E], allowed: Collection[E]) -> Callable[[str], E]:
    """The same for the members of an enum."""
    parse = one_of([str(item) for item in allowed])
    return lambda text: kind(parse(text))
