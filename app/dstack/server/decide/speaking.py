"""Which of the runs of a workflow at one commit speaks for it there. Pure; what it says is told by others.

A pull request's run was judged against where the pull request goes to, a push's against the commit before it, which may
be the very one that made things worse: where both are, the pull request's counts. Forges show one word for a commit, so
where several pull requests have it as their head, the worst of theirs does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

Aim = tuple[int, str]  # a pull request's number, and the branch it goes to


@dataclass(frozen=True, slots=True)
class Voice:
    """A run of the workflow at the commit. `aim`: of the pull request it was made for; `gave_way`: to other work."""

    id: int
    trusted: bool = True
    gave_way: bool = False
    aim: Aim | None = None


def who_speaks(voices: Sequence[Voice], aims: Collection[Aim]) -> tuple[int, ...]:
    """Ids of the runs that count, the worst of which is told; one where no pull request that is open has the commit as
    its head (`aims`), and none without any run. `voices` oldest first.

    A stranger may make a pull request of any commit, also of one that others have pushed: what is known of it from its
    own branch is not theirs to change. A run that gave way says nothing where there is another; in the place of a pull
    request's, which was not judged then, a push's may speak, which ran the same commit, but no other pull request's.
    """
    heard = [voice for voice in voices if voice.trusted] or list(voices)
    stands = [voice for voice in heard if not voice.gave_way]
    of_pulls = [mine[-1].id for aim in aims if (mine := [voice for voice in stands if voice.aim == aim])]
    if of_pulls:
        return tuple(of_pulls)
    if any(voice.aim in aims for voice in heard):
        heard = [voice for voice in heard if voice.aim is None or voice.aim in aims]
        stands = [voice for voice in heard if not voice.gave_way]
    alone = stands or heard
    return (alone[-1].id,) if alone else ()


def is_moot(voice: Voice, aims: Collection[Aim]) -> bool:
    """It gave way, and its pull request does not go there any more: that nothing is needed now says more than it."""
    return voice.gave_way and voice.aim is not None and voice.aim not in aims
