"""`dstack github connect`, `doctor` and `disconnect`: the server's GitHub App."""

from __future__ import annotations

import argparse
import time

from dstack.cli import connection, output, terminal
from dstack.client.api import Client, Json
from dstack.client.refusal import plain
from dstack.errors import DstackError, Usage

WAIT_S = 3600.0  # as long as GitHub's own code lasts
_LOOK_EVERY_S = 2.0
_MARKS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM"}
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of whichever of the commands `parser` is."""
    command = parser.get_default("command")
    if command == "github connect":
        parser.add_argument("--org", default="", help="make the App in this organization (default: your own account)")
        parser.add_argument("--name", default="", help="the App's name on GitHub (default: dstack- and a few letters)")
        parser.add_argument(
            "--mode",
            choices=("webhook", "poll"),
            default="",
            help="how events come in; `poll` needs no open port (default: poll where the server's address is private)",
        )
        parser.add_argument("--replace", action="store_true", help="make a new App although one is connected")
        parser.add_argument("--no-wait", action="store_true", help="print the address and leave")
    elif command == "github doctor":
        parser.add_argument("--fix", action="store_true", help="mend what the server can mend itself")
    else:
        parser.add_argument("-y", "--yes", action="store_true", help="do it (without it, only says what would happen)")
    if command != "github disconnect":
        output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    if args.command == "github connect":
        return connect(client, args)
    if args.command == "github doctor":
        return doctor(client, args)
    return disconnect(client, args)


def connect(client: Client, args: argparse.Namespace) -> int:
    before = client.github()
    start = client.make_github_app(name=args.name, organization=args.org, mode=args.mode, replace=args.replace)
    if args.json:
        output.print_json(start)
        return 0
    print("Open this address in a browser, and follow it to GitHub and back:\n")
    print(f"  {plain(start['url'])}\n")
    if args.no_wait:
        return 0
    terminal.tell("Waiting for GitHub (Ctrl-C leaves; the address works for an hour) ...")
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        now = client.github()
        if now["connected"] and (now["app"] != before["app"] or not before["connected"]):
            _say_connected(now)
            return 0
        time.sleep(_LOOK_EVERY_S)
    raise DstackError("GitHub did not come back within the hour", "Begin again: `dstack github connect`.")


def _say_connected(now: Json) -> None:
    print(f"Connected as {plain(now['app'])}. Events come in by {now['mode']}.")
    print(f"Now install it on your repositories: {plain(now['install_url'])}")
    print("Then check: dstack github doctor")


def doctor(client: Client, args: argparse.Namespace) -> int:
    """Exit code 1 when something is a problem."""
    report = client.github_doctor(fix=args.fix)
    bad = any(finding["level"] == "problem" for finding in report["findings"])
    if args.json:
        output.print_json(report)
        return int(bad)
    width = max(len(finding["check"]) for finding in report["findings"])
    for finding in report["findings"]:
        level = finding["level"]
        mark = terminal.paint(f"{_MARKS[level]:<7}", _COLOURS[level], on=terminal.has_colour())
        print(f"{mark}  {plain(finding['check']):<{width}}  {plain(finding['said'])}")
        if finding["mend"]:
            print(f"{'':9}{'':{width}}  {plain(finding['mend'])}")
    for done in report["done"]:
        print(f"mended: {plain(done)}")
    return int(bad)


def disconnect(client: Client, args: argparse.Namespace) -> int:
    now = client.github()
    if not now["connected"]:
        raise Usage("no GitHub App is connected")
    if not args.yes:
        print(f"Would forget {plain(now['app'])} and its key. {len(now['repos'])} repos and their runs stay here;")
        print("pushes and comments on GitHub would start nothing any more.")
        terminal.tell("Nothing was changed. Do it: dstack github disconnect --yes")
        return 0
    client.forget_github_app()
    print(f"Forgotten. Remove the App itself on GitHub: {plain(now['app_url'])}")
    return 0
