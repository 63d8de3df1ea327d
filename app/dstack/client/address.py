"""What a server address is and whether a redirect may be followed; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from dstack.errors import Unreachable

DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a server is: `prefix` is the path it is mounted at, without a slash at its end."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.prefix}"

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def parse_address(url: str) -> Address:
    """Read a server address. Raises Unreachable with what to type when it cannot be one."""
    try:
        parts = urlsplit(url.strip())
        scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
    except ValueError as error:
        raise _not_an_address(url, str(error)) from None
    if scheme not in DEFAULT_PORTS:
        raise _not_an_address(url, "it does not start with http:// or https://")
    if not host or any(c <= " " or c == "\x7f" for c in url.strip()):
        raise _not_an_address(url, "it names no host")
    if parts.username is not None or parts.password is not None:
        raise _not_an_address(f"{scheme}://…@{host}", "a token does not belong into the address")
    if parts.query or parts.fragment:
        raise _not_an_address(url, "it has a query or a fragment")
    return Address(scheme, host, port if port is not None else DEFAULT_PORTS[scheme], parts.path.rstrip("/"))


def redirect_target(address: Address, path: str, location: str) -> str | None:
    """The path a redirect leads to on the same server, or None when it leads elsewhere: the token stays at home."""
    try:
        target = urlsplit(urljoin(address.url + path, location))
        port = target.port or DEFAULT_PORTS.get(target.scheme, 0)
        same = (target.scheme, target.hostname, port) == (address.scheme, address.host.lower(), address.port)
    except ValueError:
        return None
    if not same or not target.path.startswith(address.prefix):
        return None
    return target.path[len(address.prefix) :] + (f"?{target.query}" if target.query else "")


class Proxy(NamedTuple):
    host: str
    port: int
    user: str | None
    password: str | None


def proxy_for(address: Address, env: Mapping[str, str]) -> Proxy | None:
    """The proxy that http_proxy / https_proxy / all_proxy name for a server, unless no_proxy excepts it or it is local.

    HTTP_PROXY in capitals is not read for http: a CGI request could set it.
    """
    if address.is_loopback or _is_excepted(address.host, env.get("no_proxy") or env.get("NO_PROXY") or ""):
        return None
    names = ["https_proxy", "HTTPS_PROXY"] if address.scheme == "https" else ["http_proxy"]
    value = next((env[name] for name in [*names, "all_proxy", "ALL_PROXY"] if env.get(name)), "")
    if not value:
        return None
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if parts.scheme != "http" or not parts.hostname:
        raise Unreachable(
            f"the proxy {parts.scheme}://{parts.hostname} cannot be used", "Only http:// proxies are supported."
        )
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(parts.hostname, parts.port or 80, user, unquote(parts.password or ""))


def _is_excepted(host: str, no_proxy: str) -> bool:
    names = [name.strip().lstrip(".").lower() for name in no_proxy.split(",") if name.strip()]
    return any(name == "*" or host.lower() == name or host.lower().endswith("." + name) for name in names)


def _not_an_address(url: str, why: str) -> Unreachable:
    return Unreachable(
        f"{url!r} is not a server address: {why}",
        "Set it with `dstack config set server http://HOST:3000`, or in DSTACK_SERVER.",
    )
