"""Finds the commands in a comment and reads them, pure and in linear time; who may give them, and what they do, is
left to the handler. A command is a line that begins with `/dstack`, or with a workflow's own word, such as `/train`."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dstack.errors import DstackError, Usage
from dstack.language.problems import nearest
from dstack.server.decide.budget import parse_budget

MAIN_WORD = "/dstack"
MAX_COMMANDS = 5  # of a comment are done
MAX_LINE = 4_000  # characters of a command

_LINE_END = re.compile(r"\r\n|\n|\r")
_COMMAND = re.compile(r"(/[a-z0-9][a-z0-9-]{0,49})(?:[ \t](.*))?\Z")
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*\Z)|~{3,})")
_QUOTE = re.compile(r" {0,3}>(.*)")
_CODE_SPAN = re.compile(r"`[^`]*`")
# CommonMark's blocks of HTML. Those to their end: code, and what folds away or quotes, with whatever stands in it.
_RAW_BLOCK = re.compile(r" {0,3}<(pre|script|style|textarea|blockquote|details)(?=[\s>]|\Z)", re.IGNORECASE)
_UNTIL_BLANK = ("</blockquote>", "</details>")  # the line of their end, and those below it, are HTML still
_REMARKS = (("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"), ("<!", ">"))  # nobody sees what is in them
_HTML_BLOCK = re.compile(
    r" {0,3}</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir"
    r"|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|link"
    r"|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|th|thead"
    r"|title|tr|track|ul)(?=[\s>]|/>|\Z)",
    re.IGNORECASE,
)
_UNSEEN_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp"})
_UNSEEN = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")  # letters by name that show nothing
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
class Line:
    """A line that begins with a command's word. `rest` is what follows it."""

    word: str
    rest: str = ""

    @property
    def text(self) -> str:
        return f"{self.word} {self.rest}".rstrip()


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


def find_lines(text: str) -> tuple[Line, ...]:
    """Every line that could be a command, in order: not in code, quotes or HTML comments, and of nothing but characters
    that one can see, so that what runs is what stands there."""
    return tuple(
        Line(found[1], (found[2] or "").strip())
        for line in _plain_lines(text)
        if line.startswith("/") and (found := _COMMAND.match(line)) and not _hides_something(line)
    )


def of_known_words(lines: Collection[Line], words: Collection[str]) -> tuple[Line, ...]:
    """Those that are ours: other programs have commands too."""
    return tuple(line for line in lines if line.word == MAIN_WORD or line.word in words)


def verb_of(line: Line) -> Verb:
    """What a line would do: somebody who may not do that is told nothing, so it is asked before the line is judged. One
    that cannot be read only asks for help."""
    try:
        return read_line(line, {line.word: ()}).verb
    except Usage:
        return Verb.HELP


@dataclass(frozen=True, slots=True)
class Heard:
    """A pull request as it was heard of before a comment on it was handled. Times are the forge's, in whole seconds:
    `head_at` of the push, `base_at` of its being aimed at another branch (0: it never was). `head_moved`: it had
    another head before."""

    head_sha: str
    head_at: float
    base_branch: str
    head_moved: bool = False
    base_at: float = 0


def is_head_as_said(heard: Heard, head_sha: str, said_at: float) -> bool:
    """Whether a comment of `said_at` was made at `head_sha`, the head of its pull request now. In doubt it was not:
    what somebody looked at is what runs, not what was pushed since, be it within the same second. One that is opened
    with a command in its first second had no other head to look at."""
    if heard.head_sha != head_sha:
        return False
    return heard.head_at < said_at or (heard.head_at == said_at and not heard.head_moved)


def is_base_as_said(heard: Heard, base_branch: str, said_at: float) -> bool:
    """The same of the branch that it goes to."""
    return heard.base_branch == base_branch and (not heard.base_at or heard.base_at < said_at)


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


def _plain_lines(text: str) -> Iterator[str]:
    """The lines that are shown as text at the left margin. What is in doubt is left out: a person can write again."""
    fence, raw_end, in_html, in_quote, in_remark = "", "", False, False, False
    for line in _LINE_END.split(text):
        if raw_end:
            raw_end, in_html = _after_raw(line, raw_end)
        elif fence:
            fence = "" if _closes(line, fence) else fence
        elif not line.strip():
            in_html = in_quote = in_remark = False
        elif in_html:
            continue
        elif opening := _FENCE.match(line):
            fence, in_quote, in_remark = opening[1], False, False
        elif end := _end_of_remark(line):
            raw_end = end if end not in line else ""
        elif block := _RAW_BLOCK.match(line):
            raw_end, in_html = _after_raw(line, f"</{block[1].lower()}>")
        elif _HTML_BLOCK.match(line):
            in_html = True
        elif quote := _QUOTE.match(line):
            in_quote = bool(quote[1].strip())
        elif in_remark:
            in_remark = _opens_remark(line, is_open=True)
        elif not in_quote:  # a line right below a quote's text still belongs to the quote
            in_remark = _opens_remark(line)
            yield line


def _after_raw(line: str, end: str) -> tuple[str, bool]:
    """What still has to come after this line of a block that goes to `end`; and whether the next lines are HTML."""
    is_over = end.lower() in line.lower()
    return "" if is_over else end, is_over and end in _UNTIL_BLANK


def _end_of_remark(line: str) -> str:
    """What ends the remark that the line begins with; empty where it begins with none."""
    shown = line.lstrip(" ")
    return next((end for start, end in _REMARKS if shown.startswith(start)), "")


def _closes(line: str, fence: str) -> bool:
    closing = _FENCE.match(line)
    return bool(
        closing and closing[1][0] == fence[0] and len(closing[1]) >= len(fence) and not line[closing.end() :].strip()
    )


def _opens_remark(line: str, *, is_open: bool = False) -> bool:
    """Whether an HTML comment within a paragraph goes on after this line."""
    if is_open and "-->" not in line:
        return True
    text = line.rpartition("-->")[2]
    return "<!--" in text and "<!--" in _CODE_SPAN.sub("", text)


def _hides_something(line: str) -> bool:
    """Whether it has spaces that are none, or characters that nobody sees."""
    if line.isascii() and line.replace("\t", "").isprintable():
        return False
    return any(c in _UNSEEN or (unicodedata.category(c) in _UNSEEN_KINDS and c not in " \t") for c in line)
