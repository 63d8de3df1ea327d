"""Decides which outside names may be handed to git at all: refs, commits, repository names and addresses.

Pure: nothing is resolved or looked up. Every check answers with the name it was given, or raises Invalid saying why.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import SplitResult, unquote, urlsplit

from dstack.errors import Invalid

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?\Z")
_REPO = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,99}\Z")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?\Z")
_FORBIDDEN_IN_REF = frozenset(" ~^:?*[\\")
_SCHEMES = frozenset({"https", "http", "ssh"})
_LONGEST_REF = 1024
_LONGEST_PART = 250  # git adds ".lock" while it writes, and file systems end at 255 bytes
_LONGEST_URL = 2048


def check_sha(text: str) -> str:
    """A whole commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits."""
    if not _SHA.match(text):
        raise Invalid(f"{_shown(text)} is not a commit id", "give all 40 (or 64) lower-case hexadecimal digits")
    return text


def is_zero(sha: str) -> bool:
    """The id git writes where there is no commit: before a ref is made, or after it is deleted."""
    return not sha.strip("0")


def check_ref(name: str) -> str:
    """A ref or branch name by git's own rules, and never one that could be read as an option."""
    raw = name.encode("utf-8", "surrogatepass")
    parts = name.split("/")
    wrong = (
        "is empty" if not name
        else f"is longer than {_LONGEST_REF} bytes" if len(raw) > _LONGEST_REF
        else "has control characters" if any(ord(c) < 32 or ord(c) == 127 for c in name)
        else "is not valid UTF-8" if any(0xD800 <= ord(c) <= 0xDFFF for c in name)
        else "has one of the characters space ~ ^ : ? * [ \\" if _FORBIDDEN_IN_REF & set(name)
        else "has '..', '@{' or is '@'" if ".." in name or "@{" in name or name == "@"
        else "has an empty part" if "" in parts
        else "has a part that starts with a dash or a dot" if any(part[0] in "-." for part in parts)
        else "has a part that ends with .lock" if any(part.endswith(".lock") for part in parts)
        else "ends with a dot" if name.endswith(".")
        else f"has a part longer than {_LONGEST_PART} bytes" if any(_bytes(part) > _LONGEST_PART for part in parts)
        else ""
    )  # fmt: skip
    if wrong:
        raise Invalid(f"the ref name {_shown(name)} {wrong}")
    return name


def check_repo_name(name: str) -> str:
    """`owner/name` of a repo, as it stands in addresses and on disk."""
    owner, slash, repo = name.partition("/")
    wrong = (
        "is not of the form owner/name" if not slash or "/" in repo or not owner or not repo
        else "has a bad owner" if not _OWNER.match(owner)
        else "has a bad name" if not _REPO.match(repo) or set(repo) == {"."} or ".." in name
        else "ends with .git or .lock" if repo.lower().endswith((".git", ".lock"))
        else ""
    )  # fmt: skip
    if wrong:
        hint = "letters, digits, '-', '_' and '.', at most 100 each; the owner starts with a letter or digit"
        raise Invalid(f"the repository name {_shown(name)} {wrong}", hint)
    return name


def check_url(url: str, *, public_only: bool = False) -> str:
    """An address git may fetch from: https, http or ssh, with no credential in it (B49, B50, B55).

    `public_only` also refuses literal private, loopback and link-local addresses in every spelling (B52). A name that
    resolves to one is for whoever opens the connection to refuse.
    """
    parts = _split(url)
    host = parts.hostname or ""
    wrong = (
        f"uses {parts.scheme or 'no scheme'}, which is not allowed" if parts.scheme not in _SCHEMES
        else "has a password in it" if parts.password is not None
        else "has a user name in it" if parts.scheme != "ssh" and parts.username is not None
        else "has a user name that starts with a dash" if (parts.username or "").startswith("-")
        else "has no host" if not host
        else "has a bad host" if not (_HOST.match(host) or _address(host))
        else "has a path that starts with a dash" if unquote(parts.path).lstrip("/").startswith("-")
        else "has '..' in its path" if ".." in unquote(parts.path).split("/")
        else "has a query or fragment" if parts.query or parts.fragment
        else "points to a private address" if public_only and is_private_host(host)
        else ""
    )  # fmt: skip
    if wrong:
        raise Invalid(f"the address {_shown(without_credentials(url))} {wrong}", "use https://HOST/OWNER/NAME.git")
    return url


def is_private_host(host: str) -> bool:
    """A literal address of a network that is not the public internet, or a name that always means this machine."""
    address = _address(host)
    if address is None:
        name = host.rstrip(".").lower()
        return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))
    inner = _carried(address) or address
    return not inner.is_global or inner.is_multicast or getattr(inner, "is_site_local", False)


def _carried(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The old address inside a new one, where a network may lead to it: mapped, 6to4, NAT64, and the long-gone
    "compatible" form."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64 or address in _COMPATIBLE:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def without_credentials(url: str) -> str:
    """The address as it may be shown: what stands between `//` and `@` is left out."""
    return re.sub(r"(?<=//)[^/@]*(?:@[^/@]*)*@", "", url)


def _split(url: str) -> SplitResult:
    shown = _shown(without_credentials(url))
    if len(url) > _LONGEST_URL or any(ord(c) <= 32 or ord(c) == 127 for c in url) or "\\" in url:
        raise Invalid(f"the address {shown} is too long, or has spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Invalid(f"the address {shown} cannot be read") from None
    return parts


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:  # 127.1, 0x7f.1 and 2130706433 are addresses too: the C library reads them so when it connects
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _shown(text: str) -> str:
    """Quoted and escaped, and short: it may be printed to a terminal."""
    return ascii(text) if len(text) <= 120 else ascii(text[:117]) + "..."
