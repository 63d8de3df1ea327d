"""Who may have secrets, move tags and begin at once: the rule as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.errors import Invalid
from dstack.server.decide.trust import (
    Facts,
    approved_commit,
    judge,
    judge_pull,
    turn_group,
    waits_for_approval,
)
from dstack.wire.states import Trigger

HEAD, OLD, OTHER = "a" * 40, "b" * 40, "a" * 39 + "c"
ON_PULLS = [Trigger.PULL_REQUEST, Trigger.COMMENT]


@pytest.mark.parametrize("trigger", list(Trigger))
@pytest.mark.parametrize("pull", [None, 7])
def test_what_no_fork_sent_is_trusted_and_begins_at_once(trigger: Trigger, pull: int | None) -> None:
    trust = judge(Facts(trigger, HEAD, pull))
    assert (trust.trusted, trust.needs_approval, trust.waits, trust.config_from_base) == (True, False, False, False)


@pytest.mark.parametrize("trigger", ON_PULLS)
@pytest.mark.parametrize(
    ("approved", "waits", "why"),
    [
        (None, True, "from a fork; aaaaaaa is not approved"),
        (HEAD, False, "from a fork; aaaaaaa is approved"),
        (OLD, True, "from a fork; bbbbbbb is approved, not aaaaaaa"),
        (OTHER, True, "from a fork; aaaaaaa is approved, not aaaaaaa"),  # one digit of difference, at the end
        (HEAD[:12], True, "from a fork; aaaaaaa is approved, not aaaaaaa"),  # a stored approval is whole
        ("", True, "from a fork;  is approved, not aaaaaaa"),
        (HEAD.upper(), True, "from a fork; AAAAAAA is approved, not aaaaaaa"),
    ],
)
def test_a_fork_is_never_trusted_and_waits_for_its_very_commit(
    trigger: Trigger, approved: str | None, waits: bool, why: str
) -> None:
    trust = judge(Facts(trigger, HEAD, 7, is_fork=True, approved_sha=approved))
    assert (trust.trusted, trust.needs_approval, trust.config_from_base) == (False, True, True)
    assert (trust.waits, trust.is_approved, trust.why) == (waits, not waits, why)


@given(approved=st.none() | st.text("ab", min_size=0, max_size=40), head=st.text("ab", min_size=40, max_size=40))
def test_no_approval_makes_a_fork_trusted(approved: str | None, head: str) -> None:
    trust = judge_pull(True, approved, head)
    assert not trust.trusted and trust.needs_approval and trust.config_from_base
    assert trust.waits == (approved != head)


def test_a_pull_request_between_own_branches_needs_nobody() -> None:
    assert judge_pull(False, None, HEAD) == judge_pull(False, OLD, HEAD)
    assert judge_pull(False, None, HEAD).trusted


@pytest.mark.parametrize("given_sha", [HEAD, HEAD[:7], HEAD[:12], HEAD[:7].upper(), f" {HEAD[:10]} "])
def test_an_approval_may_shorten_the_head(given_sha: str) -> None:
    assert approved_commit(given_sha, HEAD) == HEAD


@pytest.mark.parametrize(
    ("given_sha", "said"),
    [
        ("", "does not name a commit"),
        (HEAD[:6], "does not name a commit"),
        ("HEAD", "does not name a commit"),
        ("main123", "does not name a commit"),
        (HEAD + "a", "does not name a commit"),
        ("-" + HEAD[:8], "does not name a commit"),
        ("\uff41\uff41\uff41\uff41\uff41\uff41\uff41", "does not name a commit"),
        (OLD, "the head is aaaaaaa, not bbbbbbbbbbbb"),
        (OLD[:7], "the head is aaaaaaa"),
        (OTHER, "the head is aaaaaaa"),
        ("x" * 100_000, "does not name a commit"),
    ],
    ids=lambda text: text[:20],
)
def test_an_approval_of_anything_but_the_head_is_refused(given_sha: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as refused:
        approved_commit(given_sha, HEAD)
    assert "/dstack approve aaaaaaa" in refused.value.hint and len(refused.value.message) < 200


def test_what_a_held_run_says() -> None:
    assert waits_for_approval(HEAD) == (
        "waits for approval of aaaaaaa: `/dstack approve aaaaaaa` by someone with write access"
    )


@pytest.mark.parametrize(
    ("group", "trusted", "pull", "turn"),
    [
        (None, True, None, None),
        (None, False, 3, None),
        ("deploy", True, None, "deploy"),
        ("deploy", True, 3, "deploy"),
        ("deploy", False, 3, "untrusted 3:deploy"),
        ("untrusted 3:deploy", False, 3, "untrusted 3:deploy"),  # of a restarted run
        ("untrusted 3:deploy", False, 4, "untrusted 4:untrusted 3:deploy"),
    ],
)
def test_a_stranger_takes_turns_with_nobody_else(
    group: str | None, trusted: bool, pull: int | None, turn: str | None
) -> None:
    assert turn_group(group, trusted=trusted, pull_request=pull) == turn
