"""`dstack config`: shows which server and token commands use and where each comes from, or sets them."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output
from dstack.cli.config_file import config_path, forget_sign_in, load_sign_ins, save_sign_ins, store_sign_in
from dstack.cli.secrets import read_value
from dstack.client import Client, Transport
from dstack.client.address import parse_address
from dstack.client.refusal import plain
from dstack.errors import Usage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["show", "set", "unset"], default="show", help="default: show")
    parser.add_argument("key", nargs="?", choices=["server", "token"], help="what to set or unset")
    parser.add_argument("value", nargs="?", help="the server's address; a token is asked for, or read from stdin")
    output.add_json(parser)
    connection.add_arguments(parser)
    parser.epilog = (
        "examples:\n  dstack config set server https://dstack.example.org\n  dstack config set token < token.txt"
    )


def main(args: argparse.Namespace) -> int:
    if args.action == "show":
        return _show(args)
    if args.key is None:
        raise Usage("say what: server or token", f"Such as: dstack config {args.action} server")
    if args.action == "unset":
        return _unset(args)
    return _set_server(args) if args.key == "server" else _set_token(args)


def _show(args: argparse.Namespace) -> int:
    target = connection.find_target(args)
    shown = f"...{target.token[-4:]}" if len(target.token) > 12 else "(set)" if target.token else ""
    rows = [
        {"key": "server", "value": target.server, "origin": target.server_origin},
        {"key": "token", "value": shown, "origin": target.token_origin},
        {"key": "file", "value": str(config_path()), "origin": ""},
    ]
    output.print_listing(args, rows, ["KEY", "VALUE", "ORIGIN"], [list(row.values()) for row in rows])
    return 0


def _set_server(args: argparse.Namespace) -> int:
    if not args.value:
        raise Usage("the address is missing", "dstack config set server http://HOST:3000")
    url = parse_address(args.value).url
    stored = load_sign_ins()
    save_sign_ins(stored._replace(server=url))
    print(f"The server is {url}" + ("" if stored.token_for(url) else "; now its token: dstack config set token"))
    return 0


def _set_token(args: argparse.Namespace) -> int:
    if args.value:
        raise Usage(
            "a token on the command line can be read by others", "Leave it out: it is asked for, or read from stdin."
        )
    server = connection.find_target(args).server
    if not server:
        raise Usage("a token belongs to a server, and none is set", "First: dstack config set server URL")
    token = read_value("the token").strip()
    who = Client(Transport(server, token)).server()
    store_sign_in(server, token, usual=load_sign_ins().server in ("", server) or None)
    print(plain(f"Signed in at {server} as {who['user']} ({who['role']})"))
    return 0


def _unset(args: argparse.Namespace) -> int:
    stored = load_sign_ins()
    if args.key == "token":
        target = connection.find_target(args).server
        if target:
            forget_sign_in(target)
            save_sign_ins(load_sign_ins()._replace(server=stored.server))
    else:
        save_sign_ins(stored._replace(server=""))
    print(f"The {args.key} is unset")
    return 0
