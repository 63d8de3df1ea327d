"""`dstack completion`: prints a shell's completion script; and, called by that script, completes a command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from dstack.cli.commands import COMMANDS

SHELLS = ("bash", "zsh", "fish")
NAMES_LIMIT = 50
_RUN_NAMES = {
    "runs": "name",
    "logs": "name",
    "wait": "name",
    "stop": "names",
    "restart": "name",
    "approve": "name",
    "artifacts": "name",
}
_RUN_NAMES["tag"] = "run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)
    parser.epilog = (
        "to use it:\n  bash:  source <(dstack completion bash)         in ~/.bashrc\n"
        "  zsh:   source <(dstack completion zsh)          in ~/.zshrc, after compinit\n"
        "  fish:  dstack completion fish | source          in ~/.config/fish/config.fish"
    )


def main(args: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["dstack"], shell=args.shell))
    return 0


def complete() -> None:
    """Answer the shell's question of this moment and end the process."""
    from argcomplete import autocomplete

    autocomplete(make_parser(os.environ.get("COMP_LINE", "").split()[1:]))


def make_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """A parser of the whole command with the arguments of the one command that the words begin with."""
    parser = argparse.ArgumentParser(prog="dstack", add_help=False)
    commands = parser.add_subparsers()
    for name, (module, help_line) in COMMANDS.items():
        if " " in name:
            continue
        chosen = words[:1] == [name]
        if chosen and name == "run":
            commands.add_parser(name, help=help_line, parents=[_run_parser(words[1:])], add_help=False)
        else:
            sub = commands.add_parser(name, help=help_line)
            sub.set_defaults(command=name)
            if chosen:
                import_module(f"dstack.cli.{module}").add_arguments(sub)
                _complete_with(sub, _RUN_NAMES.get(name, ""), run_names)
    return parser


def run_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Names of the newest runs; none where no server answers: a completion never fails."""
    from dstack.cli import connection
    from dstack.errors import DstackError

    try:
        return [run["name"] for run in connection.connect(parsed_args).all_runs(limit=NAMES_LIMIT)]
    except (DstackError, OSError):
        return []


def _run_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    from dstack.cli.lint import read_working_tree
    from dstack.cli.repository import open_repository
    from dstack.cli.runwords import PROVIDERS, own_parser, provider_parser, workflow_parser
    from dstack.errors import DstackError
    from dstack.language import read_project

    try:
        project = read_project(read_working_tree(open_repository(Path.cwd()).root)[0])
    except DstackError:
        return own_parser()
    target = next((word for word in words[:-1] if not word.startswith("-")), "")
    if target in project.workflows:
        workflow = project.workflows[target]
        parser = workflow_parser(target, workflow.help, workflow.variables)
    else:
        parser = provider_parser(target) if target in PROVIDERS else own_parser()
    action = parser.add_argument("target", nargs="?")
    action.completer = lambda **_: [*project.workflows, *PROVIDERS]  # type: ignore[attr-defined]
    return parser


def _complete_with(parser: argparse.ArgumentParser, dest: str, names: Callable[..., list[str]]) -> None:
    for action in parser._actions:
        if dest and action.dest == dest:
            action.completer = names  # type: ignore[attr-defined]
