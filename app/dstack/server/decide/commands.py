"""Reads what a line of a comment asks for, pure; who may give a command, and what it does, is left to the handler."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dstack.errors import DstackError, Usage
from dstack.language.problems import nearest
from dstack.server.decide.budget import parse_budget
from dstack.server.decide.command_lines import MAIN_WORD, Line

MAX_COMMANDS = 5  # of a comment are done
MAX_LINE = 4_000  # characters of a command

_SHA = re.compile(r"[0-9a-f]{7,64}\Z")


class Verb(StrEnum):
    RUN = "run"
    PLAN = "plan"
    STOP = "stop"
    RETRY = "retry"
    TAG = "tag"
    APPROVE = "approve"
    STATUS = "status"
    HELP = "help"


READERS_VERBS = frozenset({Verb.PLAN, Verb.STATUS, Verb.HELP})  # the others change something: write access only
USAGE = {
    Verb.RUN: "run WORKFLOW [--variable value] [--fresh]",
    Verb.PLAN: "plan [WORKFLOW] [--variable value]",
    Verb.STOP: "stop [RUN]",
    Verb.RETRY: "retry [RUN]",
    Verb.TAG: "tag RUN NAME",
    Verb.APPROVE: "approve COMMIT [BUDGET, such as 4gpu-h]",
    Verb.STATUS: "status",
    Verb.HELP: "help",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that was understood. `workflows` are those of a workflow's own word, or the one that was named; `flags`
    the words after it, read by the workflow's variables; `sha` may be the beginning of a commit's id."""

    verb: Verb
    workflows: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    run: str = ""
    tag: str = ""
    sha: str = ""
    gpu_seconds: float | None = None


def verb_of(line: Line) -> Verb:
    """What a line would do: somebody who may not do that is told nothing, so it is asked before the line is judged. One
    that cannot be read only asks for help."""
    try:
        return read_line(line, {line.word: ()}).verb
    except Usage:
        return Verb.HELP


def read_line(line: Line, words: Mapping[str, tuple[str, ...]]) -> Asked:
    """What a line asks for; `words` says which workflows each word of their own starts, in this commit. Raises Usage:
    what is wrong, with what there is."""
    if len(line.rest) > MAX_LINE:
        raise Usage(f"the command is longer than {MAX_LINE:,} characters")
    try:
        said = shlex.split(line.rest)
    except ValueError as error:
        unclosed = "a quote is not closed" if "quotation" in str(error) else "it ends with a backslash"
        raise Usage(f"the command cannot be read: {unclosed}") from None
    if line.word != MAIN_WORD:
        return _own_word(line.word, said, words)
    verb = said[0] if said else Verb.HELP
    if verb not in list(Verb):
        raise Usage(f"there is no command {verb!r}", _meant(verb, words))
    return _READERS[Verb(verb)](said[1:])


def _own_word(word: str, said: list[str], words: Mapping[str, tuple[str, ...]]) -> Asked:
    if word not in words:
        known = ", ".join(sorted(words)) or "none"
        raise Usage(f"no workflow of this commit has the command {word}", f"Commands of its workflows: {known}.")
    return Asked(Verb.RUN, workflows=words[word], flags=tuple(said))


def _meant(verb: str, words: Mapping[str, tuple[str, ...]]) -> str:
    workflows = {name for names in words.values() for name in names}
    guess = f'did you mean "run {verb}"?' if verb in workflows else nearest(verb, [v.value for v in Verb])
    there_are = f"Commands: {', '.join(USAGE.values())}."
    return f"{guess[:1].upper()}{guess[1:]} {there_are}".strip()


def _run(said: list[str]) -> Asked:
    if not said or said[0].startswith("-"):
        raise Usage("say which workflow to run", USAGE[Verb.RUN])
    return Asked(Verb.RUN, workflows=(said[0],), flags=tuple(said[1:]))


def _plan(said: list[str]) -> Asked:
    if said and said[0].startswith("-"):
        raise Usage("say which workflow has these variables", USAGE[Verb.PLAN])
    return Asked(Verb.PLAN, workflows=tuple(said[:1]), flags=tuple(said[1:]))


def _stop(said: list[str]) -> Asked:
    return Asked(Verb.STOP, run=_one_of_at_most(said, Verb.STOP))


def _retry(said: list[str]) -> Asked:
    return Asked(Verb.RETRY, run=_one_of_at_most(said, Verb.RETRY))


def _tag(said: list[str]) -> Asked:
    if len(said) != 2:
        raise Usage("say a run and the name of a tag", USAGE[Verb.TAG])
    return Asked(Verb.TAG, run=said[0], tag=said[1])


def _approve(said: list[str]) -> Asked:
    if not 1 <= len(said) <= 2:
        raise Usage("say the commit you have looked at", USAGE[Verb.APPROVE])
    if not _SHA.match(said[0].lower()):
        raise Usage(f"{said[0]!r} is not a commit: 7 or more of the letters and digits of its id", USAGE[Verb.APPROVE])
    return Asked(Verb.APPROVE, sha=said[0].lower(), gpu_seconds=_budget(said[1]) if len(said) == 2 else None)


def _budget(text: str) -> float:
    try:
        return parse_budget(text)
    except DstackError as error:
        raise Usage(error.message, error.hint or USAGE[Verb.APPROVE]) from None


def _status(said: list[str]) -> Asked:
    return _alone(Verb.STATUS, said)


def _help(said: list[str]) -> Asked:
    return _alone(Verb.HELP, said)


def _alone(verb: Verb, said: list[str]) -> Asked:
    if said:
        raise Usage(f"{verb} stands alone, and there is {said[0]!r} after it")
    return Asked(verb)


def _one_of_at_most(said: list[str], verb: Verb) -> str:
    if len(said) > 1:
        raise Usage(f"{verb} takes one run at most", USAGE[verb])
    return said[0] if said else ""


_READERS = {
    Verb.RUN: _run,
    Verb.PLAN: _plan,
    Verb.STOP: _stop,
    Verb.RETRY: _retry,
    Verb.TAG: _tag,
    Verb.APPROVE: _approve,
    Verb.STATUS: _status,
    Verb.HELP: _help,
}
