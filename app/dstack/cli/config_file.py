"""The stored sign-in of this user: which server is the usual one, and a token per server; nothing but the file.

Standard library only, because the server writes it too (`store_sign_in`). A token is kept under the address it is for
and is never given out for another one.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dstack.client.address import parse_address
from dstack.errors import DstackError, Unreachable


class SignIns(NamedTuple):
    """`server` is the usual server's address or empty; `tokens` by address; `is_exposed`: others can read the file."""

    server: str
    tokens: Mapping[str, str]
    is_exposed: bool = False

    def token_for(self, url: str) -> str:
        """The token for a server, or empty. The names of this machine are one: localhost, 127.0.0.1, ::1."""
        try:
            wanted = parse_address(url)
        except Unreachable:
            return ""
        if wanted.url in self.tokens:
            return self.tokens[wanted.url]
        if not wanted.is_loopback:
            return ""
        for known, token in self.tokens.items():
            address = parse_address(known)
            if address.is_loopback and address[2:] == wanted[2:] and address.scheme == wanted.scheme:
                return token
        return ""


def config_path(env: Mapping[str, str] | None = None) -> Path:
    """`$XDG_CONFIG_HOME/dstack/config.json`, by default under `~/.config`."""
    return xdg_folder("XDG_CONFIG_HOME", ".config", env) / "config.json"


def xdg_folder(name: str, default: str, env: Mapping[str, str] | None = None) -> Path:
    """dstack's folder under one of the XDG base directories; a relative one does not count, as the standard says."""
    value = (os.environ if env is None else env).get(name, "")
    base = Path(value) if value.startswith("/") else Path.home() / default
    return base / "dstack"


def load_sign_ins(path: Path | None = None) -> SignIns:
    """What is stored; nothing where there is no file. Raises DstackError for a file that cannot be understood."""
    path = path or config_path()
    try:
        with path.open("rb") as file:
            exposed = bool(stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077)
            data: Any = json.loads(file.read() or b"{}")
        tokens = data.get("tokens", {})
        checked = {parse_address(url).url: str(token) for url, token in tokens.items()}
        return SignIns(str(data.get("server", "")), checked, exposed)
    except FileNotFoundError:
        return SignIns("", {})
    except (ValueError, AttributeError, Unreachable) as error:
        raise DstackError(f"{path} cannot be understood: {error}", "Mend it, or delete it and sign in again.") from None


def save_sign_ins(sign_ins: SignIns, path: Path | None = None) -> None:
    """Write the file anew, readable by this user alone, whole or not at all."""
    path = path or config_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = {"server": sign_ins.server, "tokens": dict(sign_ins.tokens)}
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        json.dump(data, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def store_sign_in(url: str, token: str, *, usual: bool | None = None) -> Path:
    """Keep a token for a server, and answer where. `usual` makes it the server commands go to; None does so unless
    the usual one is on another machine: starting a server here must not take the team's server out of sight."""
    address = parse_address(url)
    stored = load_sign_ins()
    if usual is None:
        usual = not stored.server or parse_address(stored.server).is_loopback
    server = address.url if usual else stored.server
    save_sign_ins(SignIns(server, {**stored.tokens, address.url: token}))
    return config_path()


def forget_sign_in(url: str) -> None:
    """Remove the token of a server, and the server itself if it is the usual one."""
    address = parse_address(url).url
    stored = load_sign_ins()
    tokens = {known: token for known, token in stored.tokens.items() if known != address}
    save_sign_ins(SignIns("" if stored.server == address else stored.server, tokens))
