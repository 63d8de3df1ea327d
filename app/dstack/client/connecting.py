"""How a call reaches the server: the connection, the proxy before it, and what stands at the head of a request."""

from __future__ import annotations

import http.client
import os
import ssl

from dstack.client.address import Address, Proxy, proxy_for
from dstack.errors import NotSignedIn
from dstack.version import __version__

CONNECT_TIMEOUT_S = 10.0


def connect(address: Address) -> http.client.HTTPConnection:
    """A connection to a server, or to the proxy before it; it is opened by its first request."""
    proxy = proxy_for(address, os.environ)
    host, port = (proxy.host, proxy.port) if proxy else (address.host, address.port)
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        context = ssl.create_default_context()  # honours SSL_CERT_FILE and SSL_CERT_DIR
        connection = http.client.HTTPSConnection(host, port, timeout=CONNECT_TIMEOUT_S, context=context)
        if proxy:
            connection.set_tunnel(address.host, address.port, headers=_signed_in(proxy))
    else:
        connection = http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT_S)
    return connection


def target_of(address: Address, path: str) -> str:
    """What a request line names: the path, and before a proxy for plain HTTP the whole address."""
    plain_proxy = address.scheme == "http" and proxy_for(address, os.environ) is not None
    return (address.url if plain_proxy else address.prefix) + path


def headers_of(address: Address, token: str, body: bytes | None) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"dstack/{__version__}",
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    proxy = proxy_for(address, os.environ) if address.scheme == "http" else None
    return {**headers, **(_signed_in(proxy) if proxy else {})}


def checked_token(token: str) -> str:
    if any(not "!" <= c <= "~" for c in token):
        raise NotSignedIn(
            "the token has characters no token has (spaces, line ends or beyond ASCII)",
            "Copy it again: `dstack config set token`, or DSTACK_TOKEN.",
        )
    return token


def _signed_in(proxy: Proxy) -> dict[str, str]:
    if proxy.user is None:
        return {}
    from base64 import b64encode

    return {"Proxy-Authorization": "Basic " + b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()}
