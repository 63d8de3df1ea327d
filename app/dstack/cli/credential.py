"""`dstack credential get`: what git runs to learn the password for the server's remote (see gitcredentials(7))."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from dstack.cli.config_file import SignIns, load_sign_ins
from dstack.client.address import Address, parse_address
from dstack.errors import Unreachable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", help="get; others are accepted and do nothing, as git wishes")


def main(args: argparse.Namespace) -> int:
    asked = dict(line.partition("=")[::2] for line in sys.stdin.read().splitlines() if "=" in line)
    token = token_for(asked, os.environ, load_sign_ins()) if args.action == "get" else ""
    if token:
        print(f"username=dstack\npassword={token}")
    return 0


def token_for(asked: Mapping[str, str], env: Mapping[str, str], stored: SignIns) -> str:
    """The token for the host git asks about, or empty; pure. Git leaves the path out, so a server's prefix is no part
    of the comparison."""
    try:
        wanted = parse_address(f"{asked.get('protocol', '')}://{asked.get('host', '')}")
    except Unreachable:
        return ""
    if env.get("DSTACK_TOKEN") and _same_host(env.get("DSTACK_SERVER") or stored.server, wanted):
        return env["DSTACK_TOKEN"]
    near = (token for url, token in stored.tokens.items() if _same_host(url, wanted))
    return stored.token_for(wanted.url) or next(near, "")


def _same_host(url: str, wanted: Address) -> bool:
    try:
        return parse_address(url)[:3] == wanted[:3]
    except Unreachable:
        return False
