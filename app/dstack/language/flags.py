"""The variables of a workflow as options, `--lr 3e-4`, `--lr=3e-4` or `--var lr=3e-4`: one grammar for `dstack run` and
for commands in comments; pure. What else stands on a line is left to whoever made its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple, NoReturn

from dstack.errors import Usage


class Flags(NamedTuple):
    """What the options of one run say: its `variables`, and whether to do the work anew even where it stands."""

    variables: dict[str, str]
    fresh: bool = False


class _StrictParser(argparse.ArgumentParser):
    """Raises where the command line's own would print and leave the process."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message)


def read_flags(words: Sequence[str], name: str, defaults: Mapping[str, str]) -> Flags:
    """The options that stand after a workflow in a comment. Raises Usage that lists the variables."""
    parser = _StrictParser(prog=name, add_help=False, allow_abbrev=False)
    add_fresh(parser)
    add_var(parser)
    add_variables(parser, defaults)
    settings, variables = read_variables(parser, words, name, defaults)
    return Flags(variables, settings.fresh)


def add_var(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE", help="set a variable, also one named like an option"
    )


def add_fresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="do the work again, even where an equal run has done it")


def add_variables(parser: argparse.ArgumentParser, defaults: Mapping[str, str]) -> None:
    """An option per variable, where the parser has none of that name; the others are set by `--var`."""
    group = parser.add_argument_group("variables (with their defaults)")
    taken = parser._option_string_actions
    for variable, default in defaults.items():
        spellings = [
            s for s in dict.fromkeys((option_of(variable), f"--{variable.replace('-', '_')}")) if s not in taken
        ]
        shown = default.replace("%", "%%") or "empty"
        if spellings:
            group.add_argument(*spellings, dest=f"var {variable}", metavar="VALUE", help=shown)
        else:
            group.add_argument(
                f"--var {variable}=VALUE", dest=argparse.SUPPRESS, action="append", metavar="", help=shown
            )


def option_of(variable: str) -> str:
    """snake_case and kebab-case are one; options are written with dashes."""
    return "--" + variable.replace("_", "-")


def read_variables(
    parser: argparse.ArgumentParser, words: Sequence[str], name: str, defaults: Mapping[str, str]
) -> tuple[argparse.Namespace, dict[str, str]]:
    """What a parser with `--var` and the workflow's variables says of the words. Raises Usage that lists them."""
    settings, strangers = parser.parse_known_args([word for word in words if word != "--"])
    known = ", ".join(f"{option_of(variable)} ({value})" for variable, value in defaults.items()) or "none"
    if strangers:
        first = strangers[0].partition("=")[0]
        near = get_close_matches(first, parser._option_string_actions, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise Usage(f"the workflow {name} has no {first!r}", f"{meant}Its variables: {known}.")
    variables = {v: value for v in defaults if (value := getattr(settings, f"var {v}", None)) is not None}
    spelled = {variable.replace("_", "-"): variable for variable in defaults}
    for key, value in read_pairs(settings.var, "--var").items():
        if key.replace("_", "-") not in spelled:
            near = get_close_matches(key, defaults, n=1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise Usage(f"the workflow {name} has no variable {key!r}", f"{meant}Its variables: {known}.")
        variables[spelled[key.replace("_", "-")]] = value
    return settings, variables


def read_pairs(pairs: Iterable[str], option: str) -> dict[str, str]:
    """`NAME=VALUE` words as a dict. Raises Usage."""
    result = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Usage(f"{option} {pair!r} is not NAME=VALUE")
        result[key] = value
    return result
