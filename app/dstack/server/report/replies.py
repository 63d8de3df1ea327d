"""Writes our reply to a comment with commands: what each of them led to, from the answers that were kept and the runs
as they are now. Nothing in it mentions anybody, closes anything, or is a command itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from dstack.errors import DstackError, GitFailed
from dstack.language import Project, Resolved, Workflow
from dstack.language.flags import option_of
from dstack.language.problems import listing
from dstack.server.decide.commands import USAGE
from dstack.server.models import Run
from dstack.server.report.budget import COMMENT_BYTES, cut
from dstack.server.report.markdown import closed, code, fenced, plain
from dstack.server.report.words import STATES, number, why
from dstack.wire.states import JobState

DONE, REFUSED, NOT_ALLOWED, UNDER_WAY = "rocket", "confused", "-1", "eyes"
_ROWS: Final = 100  # of a table
# The reply is edited when a state changes: what goes on is one word here, so that it is edited rarely.
_STATES: Final = dict.fromkeys((JobState.PREPARING, JobState.RUNNING, JobState.SAVING), "🔄 under way")
# Git's own words may name folders of the server, and comments are read by everybody.
_OURS: Final = "this server could not read the repository"
_LOG: Final = "its log says why"
_MARK: Final = "<!-- dstack:reply:{} -->"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one command. `text` is Markdown and harmless; `runs` are shown with their state of the moment. One
    that is not `is_told` is answered by the reaction alone, unless a run of it turns out to need a word."""

    line: str
    is_done: bool
    text: str = ""
    runs: tuple[str, ...] = ()
    is_told: bool = True
    is_allowed: bool = True

    def as_data(self) -> dict[str, Any]:
        """For the table of commands."""
        return asdict(self)

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> Answer:
        return Answer(**{**data, "runs": tuple(data["runs"])})


def refused(line: str, error: DstackError) -> Answer:
    """Nothing was done, and why."""
    if isinstance(error, GitFailed):
        return Answer(line, False, _sentences(_OURS, _LOG))
    if "\n" in error.message:
        return Answer(line, False, f"{fenced(error.message)}\n\n{plain(error.hint)}".strip())
    return Answer(line, False, _sentences(error.message, error.hint))


def given_up(error: Exception) -> Answer:
    """What stands in the way of all commands of a comment was met at every try."""
    if isinstance(error, GitFailed):
        what, hint = _OURS, _LOG
    elif isinstance(error, DstackError):
        what, hint = error.message, error.hint
    else:
        what, hint = f"internal error: {type(error).__name__}", _LOG
    return Answer("", False, f"Could not be done: {_sentences(what, hint, 'Comment again once that is mended.')}")


def not_allowed(line: str) -> Answer:
    """Who may not is told by the reaction alone, and learns nothing."""
    return Answer(line, False, is_told=False, is_allowed=False)


def reaction_of(answers: Sequence[Answer]) -> str:
    """What all of them together are worth."""
    if any(not answer.is_allowed for answer in answers):
        return NOT_ALLOWED
    return DONE if all(answer.is_done for answer in answers) else REFUSED


def reply_marker(comment_id: int) -> str:
    """By which our reply is found again."""
    return _MARK.format(comment_id)


def render_reply(
    comment_id: int,
    answers: Sequence[Answer],
    runs: Mapping[str, Run],
    url_of: Callable[[str], str],
    *,
    is_there: bool = False,
) -> str:
    """The whole reply; empty where the reactions say it all, and no reply is there that said something else before."""
    told = [answer for answer in answers if answer.is_allowed and (is_there or _needs_words(answer, runs))]
    if not told:
        return ""
    parts = [reply_marker(comment_id), *(_render(answer, runs, url_of) for answer in told)]
    whole = "\n\n".join(parts)
    kept = cut(whole, COMMENT_BYTES - 1_000)
    return whole if kept == whole else f"{closed(kept).rstrip()}\n\n_shortened_"


def _needs_words(answer: Answer, runs: Mapping[str, Run]) -> bool:
    """A run that waits for somebody, or never began, is not there for who looks only at runs that go on."""
    mine = [runs[name] for name in answer.runs if name in runs]
    return answer.is_told or any(run.is_held or _never_began(run) for run in mine)


def _never_began(run: Run) -> bool:
    return run.state is JobState.FAILED and run.started_at is None


def _render(answer: Answer, runs: Mapping[str, Run], url_of: Callable[[str], str]) -> str:
    lines = [f"- {_run_line(runs[name], url_of)}" for name in answer.runs if name in runs]
    apart = "\n\n" if answer.text.startswith("```") else " "  # a fence that does not begin a line is none
    head = f"{code(answer.line, 200)}:{apart}" if answer.line else ""
    return "\n".join([f"{head}{answer.text or 'started'}", *(["", *lines] if lines else [])])


def _run_line(run: Run, url_of: Callable[[str], str]) -> str:
    said = f"waits for `/dstack approve {run.sha[:7]}`" if run.is_held else _STATES.get(run.state, STATES[run.state])
    ended = plain(why(run.reason, run.message)) if run.state.is_final and run.reason is not None else ""
    return f"{plain(run.workflow)} [{run.name}]({url_of(run.name)}) {said}{f': {ended}' if ended else ''}"


def _sentences(*texts: str) -> str:
    said = [plain(text).rstrip(".") for text in texts if text]
    return ". ".join(text[:1].upper() + text[1:] if place else text for place, text in enumerate(said)) + "."


# The answers that are texts of their own


def too_many(done: int, left: int) -> Answer:
    return Answer("", False, f"Only the first {done} commands of a comment are done; the other {left} were left.")


def help_text(workflows: Sequence[Workflow], sha: str) -> str:
    """What can be started at a commit, with which variables, and what else can be said."""
    rows = [
        f"| {plain(workflow.name)} | `{_how(workflow)}` | {_variables(workflow.variables)} | {plain(workflow.help)} |"
        for workflow in workflows[:_ROWS]
    ]
    table = ["| Workflow | Command | Variables (with their defaults) | What it does |", "|---|---|---|---|", *rows]
    said = [f"- `/dstack {usage}`" for usage in USAGE.values()]  # to be copied: nothing is cut in it
    return "\n".join([f"workflows at {sha[:7]}", "", *(table if rows else ["none"]), "", "Commands:", "", *said])


def _how(workflow: Workflow) -> str:
    return workflow.triggers.comment or f"/dstack run {workflow.name}"


def _variables(variables: Mapping[str, str]) -> str:
    return code(listing((f"{option_of(name)} {value or 'EMPTY'}" for name, value in variables.items()), 30)) or "none"


def plan_text(order: Sequence[Resolved], sha: str) -> str:
    """What a run of one workflow would be: itself, and what would run first."""
    rows = [
        f"| {place} | {plain(r.workflow)} | {_set(r.variables)} | {code(', '.join(map(str, r.depends_on))) or '-'} |"
        for place, r in enumerate(order, 1)
    ]
    return "\n".join(
        [f"would run at {sha[:7]}", "", "| Turn | Workflow | Variables | Needs |", "|---|---|---|---|", *rows]
    )


def _set(variables: Mapping[str, str]) -> str:
    return code(listing((f"{name}={value}" for name, value in variables.items()), 30)) or "none"


def event_plan_text(project: Project, planned: Sequence[tuple[str, str, str]], sha: str) -> str:
    """What this pull request starts: (workflow, what happens with it, why)."""
    rows = [
        f"| {plain(name)} | {answer} | {plain(reason)} | {_set(project.workflows[name].variables)} |"
        for name, answer, reason in planned[:_ROWS]
    ]
    return "\n".join(
        [f"a push to {sha[:7]} starts", "", "| Workflow | Then | Why | Variables |", "|---|---|---|---|", *rows]
    )


def status_text(runs: Sequence[Run], sha: str, url_of: Callable[[str], str]) -> str:
    """The runs at the head, in short."""
    if not runs:
        return f"nothing has run at {sha[:7]}"
    rows = [
        f"| {plain(run.workflow)} | {STATES[run.state]} | {_headline(run)} | [{run.name}]({url_of(run.name)}) |"
        for run in runs[:_ROWS]
    ]
    return "\n".join([f"at {sha[:7]}", "", "| Workflow | State | Result | Run |", "|---|---|---|---|", *rows])


def _headline(run: Run) -> str:
    if run.headline is None or run.headline not in run.metrics:
        return plain(why(run.reason, run.message), 120)
    return f"{plain(run.headline)} {number(run.metrics[run.headline])}"
