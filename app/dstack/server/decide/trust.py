"""How far a run is trusted: pure rules over what the forge itself knows, and nothing a commit says of itself.

Names of authors, titles, branch names and what a commit's own files ask for are no facts here: a stranger writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dstack.errors import Invalid
from dstack.wire.states import Trigger

SHORTEST = 7  # hex digits that name a commit for an approval
_OF_PULLS = (Trigger.PULL_REQUEST, Trigger.COMMENT)
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the event behind a run. `is_fork` is of its pull request; `approved_sha` the commit that
    somebody with write access let run there, None where nobody did; `sha` the commit to run."""

    trigger: Trigger
    sha: str
    pull_request: int | None = None
    is_fork: bool = False
    approved_sha: str | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Not `trusted`: no secrets, no tags, caches and objects apart, runners that take such work. `needs_approval`: it
    begins only when its very commit is approved, which `is_approved` says it is. `config_from_base`: the workflow files
    of the base branch count, not its own."""

    trusted: bool
    needs_approval: bool
    is_approved: bool
    config_from_base: bool
    why: str

    @property
    def waits(self) -> bool:
        return self.needs_approval and not self.is_approved


def judge(facts: Facts) -> Trust:
    """Only whoever may write to the repository can cause a run that is trusted: by a push, a tag, a schedule, by hand,
    or by a pull request between its own branches. A fork's is never trusted; an approval lets one commit begin."""
    if facts.trigger not in _OF_PULLS or facts.pull_request is None or not facts.is_fork:
        return Trust(True, False, False, False, "its commit was pushed to the repository itself")
    approved = facts.approved_sha is not None and facts.approved_sha == facts.sha
    if approved:
        why = f"from a fork; {short(facts.sha)} is approved"
    elif facts.approved_sha is not None:
        why = f"from a fork; {short(facts.approved_sha)} is approved, not {short(facts.sha)}"
    else:
        why = f"from a fork; {short(facts.sha)} is not approved"
    return Trust(False, True, approved, True, why)


def judge_pull(is_fork: bool, approved_sha: str | None, head_sha: str) -> Trust:
    """The same for a run of a pull request at its head."""
    return judge(Facts(Trigger.PULL_REQUEST, head_sha, 0, is_fork, approved_sha))


def approved_commit(given: str, head_sha: str) -> str:
    """The whole id of the head that `given` names, shortened at most to `SHORTEST` digits. Raises Invalid for any other
    commit: what somebody looked at is what runs, not what was pushed since."""
    asked = given.strip().lower()
    if len(asked) < SHORTEST or len(asked) > len(head_sha) or not set(asked) <= _HEX:
        raise Invalid(
            f"{given[:80]!r} does not name a commit",
            f"Give at least {SHORTEST} digits: `/dstack approve {short(head_sha)}`.",
        )
    if not head_sha.startswith(asked):
        raise Invalid(
            f"the head is {short(head_sha)}, not {asked[:12]}: nothing is approved",
            f"Look at it, then type `/dstack approve {short(head_sha)}`.",
        )
    return head_sha


def waits_for_approval(sha: str) -> str:
    """In words, for a run whose commit nobody has approved."""
    return f"waits for approval of {short(sha)}: `/dstack approve {short(sha)}` by someone with write access"


def turn_group(group: str | None, *, trusted: bool, pull_request: int | None) -> str | None:
    """The concurrency group a run takes its turn in. A stranger's runs have turns of their own for each pull request:
    else opening one would stop or hold up the work of others, before anybody had looked at it."""
    if group is None or trusted:
        return group
    mine = f"untrusted {pull_request}:"
    return group if group.startswith(mine) else mine + group


def short(sha: str) -> str:
    return sha[:SHORTEST]
