"""Posts JSON to a web address that somebody of a repository chose, without letting it reach into our own network.

The name is resolved once and the connection goes to that very address, so that a name that answers differently the
second time (DNS rebinding) gains nothing; no redirect is followed, no proxy or netrc of the environment is used. The
address is a secret: no error tells it.
"""

from __future__ import annotations

import queue
import socket
import threading
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from dstack.errors import DstackError, Invalid, Unavailable
from dstack.git.names import is_private_host

TIMEOUT_S: Final = 10.0
_LONGEST = 2048
_AGAIN: Final = (408, 425, 429)  # answers of a receiver that may take it later
_HINT = "Only an administrator can allow private addresses: DSTACK_NOTIFY_PRIVATE=1."


def post_json(url: str, body: dict[str, Any], *, private: bool = False, timeout_s: float = TIMEOUT_S) -> None:
    """Give `body` to the receiver. `private` allows addresses of private networks, and http.

    Raises Invalid for an address that may not be used and for a receiver that refuses; Unavailable when it may work
    another time, also when the whole took longer than `timeout_s`.
    """
    parts = _checked(url, private)
    ended: queue.SimpleQueue[int | DstackError] = queue.SimpleQueue()

    def work() -> None:
        try:
            ended.put(_post(url, parts, body, private, timeout_s))
        except DstackError as error:
            ended.put(error)
        except Exception as error:  # noqa: BLE001 - whatever it says may tell the address
            ended.put(Unavailable(f"the receiver could not be spoken to ({type(error).__name__})"))

    # A timeout of a socket begins anew with every byte: a receiver that answers a letter at a time would hold us for
    # ever, and the server's stop with us. The thread may be left to itself; nobody waits for it.
    threading.Thread(target=work, name="dstack-webhook", daemon=True).start()
    try:
        answer = ended.get(timeout=timeout_s)
    except queue.Empty:
        raise Unavailable(f"the receiver did not answer in {timeout_s:.0f} s") from None
    if isinstance(answer, DstackError):
        raise answer
    _judge(answer)


def _post(url: str, parts: SplitResult, body: dict[str, Any], private: bool, timeout_s: float) -> int:
    """The status it was answered with."""
    from dstack.server.gateways.webhook_http import post_to  # loads requests: only a server that notifies pays for it

    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return post_to(url, _resolved(host, port, private), body, timeout_s)


def _judge(status: int) -> None:
    if 200 <= status < 300:
        return
    if status >= 500 or status in _AGAIN:
        raise Unavailable(f"the receiver answered {status}")
    raise Invalid(f"the receiver refused it with {status}", "Check the address in the workflow's `notify:` secret.")


def _checked(url: str, private: bool) -> SplitResult:
    """The parts of an address that may be used. Raises Invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Invalid("the address to notify cannot be read") from None
    wrong = (
        "is too long, or has spaces or control characters" if len(url) > _LONGEST or any(c <= " " for c in url)
        else "does not begin with https://" if parts.scheme not in (("https", "http") if private else ("https",))
        else "has no host" if not parts.hostname
        else "has a user name or password in it" if parts.username is not None
        else "has port 0" if port == 0
        else ""
    )  # fmt: skip
    if wrong:
        raise Invalid(f"the address to notify {wrong}", "Store one that begins with https:// in the secret.")
    return parts


def _resolved(host: str, port: int, private: bool) -> str:
    """The one address to connect to. A name that has any private address is refused whole."""
    if not private and is_private_host(host):
        raise Invalid("the address to notify is of a private network", _HINT)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unavailable("the name of the receiver cannot be resolved") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not private and any(is_private_host(address) for address in addresses):
        raise Invalid("the address to notify resolves to one of a private network", _HINT)
    return addresses[0]
