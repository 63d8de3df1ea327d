"""`dstack-runner config | start | status`: reads the command line and the settings, and hands over to the loop."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence

from dstack.errors import DstackError
from dstack.version import __version__
from dstack_runner import settings

_ABOUT = "Executes the jobs of a dstack server on this machine."
_EXAMPLES = """examples:
  dstack-runner config --server https://ci.example.org --token TOKEN   store where to register, once
  dstack-runner start                                                  work until stopped
  dstack-runner start --gpus A100:40GB:2                               pretend to have two GPUs
  dstack-runner status

Stopping: SIGTERM (or Ctrl-C) takes no new jobs and waits for the live ones; a second one stops those too.
Every option may also be given as a variable, DSTACK_SERVER, DSTACK_TOKEN, DSTACK_RUNNER_NAME, DSTACK_RUNNER_DATA,
DSTACK_RUNNER_GPUS, DSTACK_RUNNER_SLOTS, DSTACK_RUNNER_LABELS, DSTACK_RUNNER_ISOLATE, DSTACK_RUNNER_UIDS,
DSTACK_RUNNER_UNTRUSTED; options win, then variables, then what `config` stored.
"""
_OPTIONS = (
    ("server", "URL", "address of the dstack server"),
    ("token", "TOKEN", "a registration token or an admin's; needed until this runner is registered"),
    ("name", "NAME", "this runner's name (default: the host's)"),
    ("data", "DIR", "its own folder for mirrors, environments and workspaces"),
    ("gpus", "NAME:MEMORY[:COUNT],..", "declare pretend GPUs instead of looking for real ones"),
    ("slots", "N", f"how many jobs it runs at once at most (default {settings.DEFAULT_SLOTS})"),
    ("labels", "A,B", "labels that jobs may ask for"),
    ("isolate", "yes|no", "whether jobs run as users of their own, when started as root (default yes)"),
    ("uids", "FIRST-LAST", "the user ids jobs run as, when started as root"),
    ("untrusted", "yes|no", "also take approved work of forks; only where jobs run as users of their own"),
)
_BARE = {"untrusted": "yes"}  # what an option means when it is given without a value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="dstack-runner", description=_ABOUT, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("--version", action="version", version=f"dstack-runner {__version__}")
    commands = top.add_subparsers(dest="command", metavar="config | start | status", required=True)
    for name, about in (
        ("config", "store settings for later starts (shows them when none is given)"),
        ("start", "register if need be, and work until stopped"),
        ("status", "tell whether a runner works on the data folder, and what this machine offers"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        for option, metavar, text in _OPTIONS:
            bare = {"nargs": "?", "const": _BARE[option]} if option in _BARE else {}
            command.add_argument(f"--{option}", metavar=metavar, help=text, **bare)  # type: ignore[arg-type]
        if name == "start":
            command.add_argument("--verbose", action="store_true", help="log more")
        if name == "status":
            command.add_argument("--json", action="store_true", help="print JSON")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = parser().parse_args(argv)
    flags = {name: getattr(arguments, name) for name, _, _ in _OPTIONS}
    try:
        if arguments.command == "config":
            return config(flags, os.environ)
        if arguments.command == "status":
            return status(flags, os.environ, as_json=arguments.json)
        return start(flags, os.environ, verbose=arguments.verbose)
    except DstackError as error:
        _tell(f"dstack-runner: {error.message}")
        if error.hint:
            _tell(error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def config(flags: Mapping[str, str | None], env: Mapping[str, str]) -> int:
    """Store the given settings, keeping the others; show all without the token."""
    path = settings.config_path(env)
    stored = settings.read_config(path)
    given = {name: value for name, value in flags.items() if value is not None}
    if given:
        merged = {**stored, **given}
        settings.resolve(merged, {}, {"server": "http://unset"})  # refuse a wrong value before it is stored
        settings.write_config(path, merged)
        stored = merged
    _say(f"{path}" + ("" if stored else " (nothing is stored)"))
    for name, value in sorted(stored.items()):
        _say(f"  {name}: {'(stored)' if name == 'token' else value}")
    return 0


def start(flags: Mapping[str, str | None], env: Mapping[str, str], *, verbose: bool = False) -> int:
    """Work until stopped."""
    chosen = settings.resolve(flags, env, settings.read_config(settings.config_path(env)))
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(threadName)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.getLogger("git").setLevel(logging.WARNING)
    from dstack.git.run import require_git  # late: `config` and `--help` need none of it
    from dstack_runner.loop import Runner

    require_git()
    runner = Runner(chosen)
    with runner.shutdown.on_signals():
        runner.run()
    return 0


def status(flags: Mapping[str, str | None], env: Mapping[str, str], *, as_json: bool = False) -> int:
    """Show what a start would find. Exit code 1 when no runner works on the data folder."""
    from dstack_runner.probe import Probe, parse_gpus
    from dstack_runner.session import Session

    chosen = settings.resolve(flags, env, settings.read_config(settings.config_path(env)))
    session = Session(chosen.data)
    holder = session.holder()
    credential = session.credential(chosen.server, chosen.name)
    capacity = Probe(parse_gpus(chosen.gpus)).capacity(slots=chosen.slots, labels=chosen.labels)
    facts: dict[str, object] = {
        "server": chosen.server,
        "name": credential.name if credential else chosen.name,
        "data": str(chosen.data),
        "registered": credential is not None,
        "process": holder,
        "cpu": capacity.cpu,
        "memory": capacity.memory,
        "slots": capacity.slots,
        "labels": list(capacity.labels),
        "untrusted": chosen.untrusted,
        "devices": [{"id": d.id, "name": d.name, "memory": d.memory, "busy": d.busy} for d in capacity.devices],
    }
    if as_json:
        _say(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            _say(f"{name}: {_shown(value)}")
    return 0 if holder is not None else 1


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return "none" if value is None else str(value)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
