"""`dstack secrets`: lists, sets and deletes the secrets of a repo. A value comes from a prompt or standard input, never
from the command line, where others could read it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dstack.cli import connection, output, quantities, terminal
from dstack.errors import Usage

MAX_VALUE_BYTES = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["list", "set", "delete"], default="list", help="default: list")
    parser.add_argument("name", nargs="?", default="", help="the secret, such as WANDB_API_KEY")
    parser.add_argument("--repo", default="", help="OWNER/NAME (default: the repo of this folder)")
    output.add_json(parser)
    connection.add_arguments(parser)
    parser.epilog = "examples:\n  dstack secrets set WANDB_API_KEY          asks for the value\n" + (
        "  dstack secrets set SSH_KEY < ~/.ssh/deploy  reads it, without the last line end"
    )


def main(args: argparse.Namespace) -> int:
    output.require_name(args, "set", "delete")
    repo = args.repo or _repo_here()
    client = connection.connect(args)
    if args.action == "set":
        client.set_secret(repo, args.name, read_value(args.name))
        terminal.tell(f"{args.name} of {repo} is set; workflows that name it under `secrets:` get it")
        return 0
    if args.action == "delete":
        client.delete_secret(repo, args.name)
        terminal.tell(f"{args.name} of {repo} is deleted")
        return 0
    secrets, now = client.secrets(repo), output.now()
    rows = [[secret["name"], quantities.ago(secret["updated_at"], now), secret["updated_by"]] for secret in secrets]
    output.print_listing(args, secrets, ["SECRET", "SET", "BY"], rows)
    return 0


def read_value(name: str) -> str:
    """A secret from the person at the terminal, unseen, or all of standard input. Raises Usage for none or too much."""
    if terminal.is_terminal(sys.stdin):
        from getpass import getpass

        value = getpass(f"Value of {name}: ")
    else:
        raw = sys.stdin.buffer.read(MAX_VALUE_BYTES + 2)
        try:
            value = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Usage(f"the value of {name} is not UTF-8 text", "Encode it, for example with base64.") from None
        value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise Usage(f"the value of {name} is empty")
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise Usage(f"the value of {name} is over {MAX_VALUE_BYTES // 1024} KB")
    return value


def _repo_here() -> str:
    from dstack.cli.repository import find_repo_name

    return find_repo_name(Path.cwd())
