"""Reads the words after `dstack run`: its own options, a workflow with variables, or a provider with a script; pure.

What is accepted depends on the repository: the variables of a workflow are options of `dstack run WORKFLOW`. A variable
that is named like an option of dstack's own is set with --var name=value.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from dstack.cli import connection, quantities
from dstack.errors import Usage
from dstack.language.flags import add_fresh, add_var, add_variables, read_pairs, read_variables

PROVIDERS = ("python", "bash")


class RunWords(NamedTuple):
    """What shall run: a `workflow` with `variables`, or a `provider` with `options` in the words of the workflow file.
    `settings` holds dstack's own options."""

    settings: argparse.Namespace
    workflow: str = ""
    variables: dict[str, str] = {}
    provider: str = ""
    options: dict[str, Any] = {}


def own_parser(target: str = "") -> argparse.ArgumentParser:
    """The options of `dstack run` itself."""
    parser = argparse.ArgumentParser(
        prog=f"dstack run {target}".strip(),
        usage=None
        if target
        else "dstack run WORKFLOW [--variable value ...] [options]\n       "
        "dstack run PROVIDER [options] SCRIPT [script's arguments ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        description="Run a workflow, or a provider, on the working tree as it is: what is staged, changed,\n"
        "untracked or deleted counts, what is ignored does not.",
    )
    parser.add_argument("-d", "--detach", action="store_true", help="print the run's name and leave it to itself")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and send nothing")
    add_fresh(parser)
    add_var(parser)
    parser.add_argument("--repo", default="", help="OWNER/NAME on the server (default: by the remote dstack or origin)")
    parser.add_argument("--max-upload", type=_size, metavar="SIZE", help="limit of what is sent (default 200MB)")
    parser.add_argument("--json", action="store_true", help="print the run as JSON and leave, as with -d")
    connection.add_arguments(parser)
    return parser


def provider_parser(provider: str) -> argparse.ArgumentParser:
    """The same, with what a provider without an entry in the workflow file needs to know."""
    parser = own_parser(provider)
    rest = "'COMMAND' | WORD ..." if provider == "bash" else "SCRIPT [script's arguments ...]"
    parser.usage = f"dstack run {provider} [options] {rest}"
    group = parser.add_argument_group("job")
    if provider == "python":
        group.add_argument("-m", "--module", metavar="MODULE", help="run a module instead of a script")
        group.add_argument("--python", metavar="VERSION", help="Python version, such as 3.12")
        group.add_argument("-r", "--requirements", action="append", default=[], metavar="FILE", help="to be installed")
    group.add_argument("-a", "--artifact", action="append", default=[], metavar="PATH", help="save this afterwards")
    group.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="environment variable")
    group.add_argument("--gpu", metavar="GPUS", help="how many GPUs, or NAME:COUNT")
    group.add_argument("--cpu", metavar="CORES", help="how many cores")
    group.add_argument("--memory", metavar="SIZE", help="how much memory, such as 16GB")
    parser.epilog = "Options of dstack may stand before or after the script; after -- everything is the script's."
    return parser


def workflow_parser(name: str, help_line: str, defaults: Mapping[str, str]) -> argparse.ArgumentParser:
    """The same, with an option per variable of the workflow."""
    parser = own_parser(name)
    parser.description = help_line or f"Run the workflow {name} on the working tree as it is."
    add_variables(parser, defaults)
    return parser


def find_target(words: Sequence[str]) -> int | None:
    """Where the workflow or provider stands: the first word that is no option of dstack's nor the value of one."""
    actions = own_parser()._option_string_actions
    valued = {name for name, action in actions.items() if action.nargs is None}
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            return position + 1 if position + 1 < len(words) else None
        if not word.startswith("-") or word == "-":
            return position
        position += 2 if word in valued else 1
    return None


def read_workflow(words: Sequence[str], name: str, help_line: str, defaults: Mapping[str, str]) -> RunWords:
    """Words of `dstack run NAME ...` without the name. Raises Usage that lists the variables."""
    parser = workflow_parser(name, help_line, defaults)
    settings, variables = read_variables(parser, words, name, defaults)
    return RunWords(settings, workflow=name, variables=variables)


def read_provider(words: Sequence[str], provider: str) -> RunWords:
    """Words of `dstack run PROVIDER ...` without the provider; what dstack does not know is the script's own."""
    mine, script_only = _split_at_dashes(words)
    settings, rest = provider_parser(provider).parse_known_args(mine)
    if settings.var:
        raise Usage(
            f"{provider} without a workflow has no variables", "Give them as arguments, or as --env NAME=VALUE."
        )
    rest += script_only
    given: dict[str, Any] = {"artifacts": settings.artifact, "env": read_pairs(settings.env, "--env")}
    given["resources"] = {key: value for key in ("gpu", "cpu", "memory") if (value := getattr(settings, key))}
    if provider == "bash":
        if not rest:
            raise Usage("there is no command to run", "dstack run bash 'make test'")
        given["commands"] = [rest[0] if len(rest) == 1 else shlex.join(rest)]
    elif provider == "python":
        given |= _python_options(settings, rest)
    else:
        given["args"] = rest
    options = {key: value for key, value in given.items() if value}
    return RunWords(settings, provider=provider, options=options)


def no_target(workflows: Iterable[str], target: str = "") -> Usage:
    """The error for a missing or unknown workflow, with the list of those there are."""
    names = list(workflows)
    there_are = (
        f"Workflows here: {', '.join(names)}." if names else "No workflow is here: `dstack init` writes a first."
    )
    near = get_close_matches(target, [*names, *PROVIDERS], n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    what = f"there is no workflow or provider {target!r}" if target else "say what to run"
    return Usage(what, f"{meant}{there_are} Providers: {', '.join(PROVIDERS)}.")


def _python_options(settings: argparse.Namespace, rest: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {"requirements": settings.requirements, "version": settings.python}
    if settings.module:
        return {**options, "module": settings.module, "args": rest}
    if not rest or rest[0].startswith("-"):
        raise Usage("there is no script to run", "dstack run python train.py --epochs 3")
    return {**options, "script": rest[0], "args": rest[1:]}


def _split_at_dashes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    words = list(words)
    if "--" not in words:
        return words, []
    position = words.index("--")
    return words[:position], words[position + 1 :]


def _size(text: str) -> int:
    size = quantities.parse_size(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 500MB")
    return size
