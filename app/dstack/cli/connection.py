"""Decides which server a command talks to and with which token: flag, then environment, then the stored sign-in."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import NamedTuple

from dstack.cli import terminal
from dstack.cli.config_file import SignIns, config_path, load_sign_ins
from dstack.cli.output import warn
from dstack.client import Client, Transport
from dstack.errors import NotSignedIn, Unreachable


class Target(NamedTuple):
    """Where to and as whom; an origin says where a value comes from, empty with an empty value."""

    server: str
    token: str
    server_origin: str
    token_origin: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--server", metavar="URL", help="the server to talk to (DSTACK_SERVER)")
    group.add_argument(
        "--token",
        help="the token to show it (better DSTACK_TOKEN: other users of this machine can read a command line)",
    )


def choose_target(server: str | None, token: str | None, env: Mapping[str, str], stored: SignIns, file: str) -> Target:
    """The server and token to use; pure. A stored token goes only to the server it was stored for."""
    server_choices = ((server, "--server"), (env.get("DSTACK_SERVER"), "DSTACK_SERVER"), (stored.server, file))
    url, url_origin = next(((v, o) for v, o in server_choices if v), ("", ""))
    token_choices = ((token, "--token"), (env.get("DSTACK_TOKEN"), "DSTACK_TOKEN"), (stored.token_for(url), file))
    secret, secret_origin = next(((v, o) for v, o in token_choices if v), ("", ""))
    return Target(url, secret, url_origin, secret_origin)


def find_target(args: argparse.Namespace) -> Target:
    """The same from this process's environment and file, with a warning if the file is open to others."""
    stored = load_sign_ins()
    target = choose_target(
        getattr(args, "server", None), getattr(args, "token", None), os.environ, stored, str(config_path())
    )
    if stored.is_exposed and str(config_path()) in (target.server_origin, target.token_origin):
        warn(f"{config_path()} can be read by other users; close it with `chmod 600 {config_path()}`")
    return target


def connect(args: argparse.Namespace, *, start_local: bool = False) -> Client:
    """A client for the chosen server. `start_local` starts one on this machine where none is configured.

    Raises Unreachable without a server, NotSignedIn without a token.
    """
    target = find_target(args)
    if target.server_origin in ("", str(config_path())):
        target = _with_local_server(target, start=start_local)
    if not target.server:
        raise Unreachable(
            "no server is configured",
            "Set one with `dstack config set server URL`, or start your own with `dstack server start`.",
        )
    transport = Transport(target.server, target.token)  # a bad address is said before a missing token
    if not target.token:
        raise NotSignedIn(
            f"there is no token for {target.server}",
            "Ask its administrator for one (`dstack users add NAME`), then: dstack config set token",
        )
    return Client(transport)


def _with_local_server(target: Target, *, start: bool) -> Target:
    """Start this user's own server where there is none, or where it is the usual one and has ended since."""
    if not target.server and not start:
        return target
    from dstack.cli import local_server

    if target.server and not (start and local_server.is_ours_and_ended(target.server)):
        return target
    url, token = local_server.ensure_running()
    why = "your server had ended and was started again" if target.server else "no server is configured: started yours"
    terminal.tell(f"dstack: {why} at {url} (`dstack server stop` ends it)")
    return Target(url, token, "started here", "started here")
