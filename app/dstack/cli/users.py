"""`dstack users`: lists, adds and removes users, and renews their tokens. A token is printed once."""

from __future__ import annotations

import argparse

from dstack.cli import connection, output, quantities, terminal
from dstack.client import Json
from dstack.client.refusal import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=["list", "add", "remove", "token"], default="list", help="default: list"
    )
    parser.add_argument("name", nargs="?", default="", help="the user")
    parser.add_argument("--role", choices=["admin", "member"], default="member", help="of a new user (default: member)")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    output.require_name(args, "add", "remove", "token")
    client = connection.connect(args)
    if args.action == "remove":
        client.delete_user(args.name)
        print(f"{args.name} is removed, and the token is worth nothing now")
        return 0
    if args.action in ("add", "token"):
        user = client.add_user(args.name, args.role) if args.action == "add" else client.new_user_token(args.name)
        return _print_new_token(args, client.url, user)
    users, now = client.users(), output.now()
    rows = [[user["name"], user["role"], quantities.ago(user["created_at"], now)] for user in users]
    output.print_listing(args, users, ["USER", "ROLE", "ADDED"], rows)
    return 0


def _print_new_token(args: argparse.Namespace, url: str, user: Json) -> int:
    if args.json:
        output.print_json(user)
        return 0
    print(plain(user["token"] or ""))
    terminal.tell(
        f"This is the token of {plain(user['name'])} ({user['role']}); it is not shown again. They sign in with:\n"
        f"  dstack config set server {url}\n  dstack config set token"
    )
    return 0
