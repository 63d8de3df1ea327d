"""The one rule that maps an address of a Git repository to the repo it names; used by the CLI and the server alike."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from dstack.errors import Invalid
from dstack.git.names import check_repo_name

OWN_FORGE = "dstack"

_SCP = re.compile(r"(?:(?P<user>[A-Za-z0-9_.-]+)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9_.-]*):(?P<path>[^:].*)\Z")
_SCHEMES = {"https": 443, "http": 80, "ssh": 22, "git+ssh": 22, "ssh+git": 22, "git": 9418}


class Origin(NamedTuple):
    """`forge` is the host in lower case (with its port where it is not the scheme's own), or `dstack` for the Git
    remote of a dstack server, `SERVER/git/OWNER/NAME.git`, where `owner/name` is the project's name everywhere."""

    forge: str
    owner: str
    name: str

    @property
    def repo(self) -> str:
        return f"{self.owner}/{self.name}"


def repo_from_url(url: str) -> Origin | None:
    """The repo an `origin` address names; None when it names none (a folder, a strange scheme, more than two parts)."""
    if not url.isprintable():
        return None
    found = _from_scp(url) if "://" not in url else _from_address(url)
    if found is None:
        return None
    forge, path, is_web = found
    parts = _parts(path)
    if is_web and len(parts) >= 3 and parts[-3] == "git":
        forge, parts = OWN_FORGE, parts[-2:]
    if len(parts) != 2:
        return None
    try:
        check_repo_name("/".join(parts))
    except Invalid:
        return None
    return Origin(forge, *parts)


def _from_scp(url: str) -> tuple[str, str, bool] | None:
    match = _SCP.match(url)
    if match is None or "/" in match["host"] or len(match["host"]) == 1:  # C:\folder is a drive, not a host
        return None
    return match["host"].lower(), match["path"], False


def _from_address(url: str) -> tuple[str, str, bool] | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    host = parts.hostname or ""
    if scheme not in _SCHEMES or not host or host.startswith("-") or parts.query or parts.fragment:
        return None
    own_port = port is None or port == _SCHEMES[scheme]
    return (host if own_port else f"{host}:{port}"), parts.path, scheme in ("https", "http")


def _parts(path: str) -> list[str]:
    """Path parts, decoded once, without the `.git` at the end. An odd part fails the name check that follows."""
    trimmed = path.strip("/")
    trimmed = trimmed.removesuffix(".git")
    return [unquote(part) for part in trimmed.split("/")]
