"""When the forge may be written to again, and when a run under way is worth telling anew; pure."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds after a run's start at which its progress is told: these, then one every last number.
COMMENT_STEPS = (60.0, 120.0, 300.0, 600.0)  # 1, 2, 5, 10 minutes, then every 10
# A pull request has one comment and a check for every workflow, and all of them share a budget of writes.
CHECK_STEPS = (60.0, 300.0, 600.0, 2400.0)  # 1, 5, 10, 40 minutes, then every 40
KEEP_ALIVE_S = 20 * 3600.0  # GitHub calls a check stale that was not touched for 14 days
STATUS_PROGRESS_MOST = 900  # writes per commit and context after which only changes of state are told,
STATUS_FINAL_ONLY = 990  # and after which only ends are: at 1 000 GitHub takes no more, for ever
_BACKOFF_MOST_S = 60.0
_BUSY_MOST_S = 2 * 3600.0  # no limit of GitHub's lasts longer; more is a broken header


def next_progress(elapsed_s: float, steps: tuple[float, ...] = COMMENT_STEPS) -> float:
    """The first time of the schedule after `elapsed_s`, both in seconds since the start."""
    for step in steps:
        if step > elapsed_s:
            return step
    return (elapsed_s // steps[-1] + 1) * steps[-1]


def is_progress_due(
    started_at: float, told_at: float | None, now: float, steps: tuple[float, ...] = COMMENT_STEPS
) -> bool:
    """Whether a time of the schedule has passed since it was last told."""
    if told_at is None:
        return True
    return started_at + next_progress(max(0.0, told_at - started_at), steps) <= now


def backoff_s(tries: int, jitter: float) -> float:
    """How long to wait after failure number `tries` (from 0): 1, 2, 4 … 60 s, less up to half of it by `jitter`
    (0 to 1), so that the first try again is quick and many do not come together."""
    return min(_BACKOFF_MOST_S, 2.0 ** min(tries, 10)) * (1 - jitter / 2)


@dataclass(frozen=True, slots=True)
class Pace:
    """How one lane writes: not before `rest_s` have passed since `since`."""

    since: float = 0.0
    rest_s: float = 0.0
    failures: int = 0  # in a row

    def wait_s(self, now: float) -> float:
        """Seconds until the next write may begin. A clock that was set back holds nothing up."""
        left = self.rest_s - (now - self.since)
        return left if 0.001 < left <= self.rest_s else 0.0  # a clock of seconds since 1970 is no finer

    def after_answer(self, now: float, gap_s: float) -> Pace:
        """The forge did, or refused, what was asked."""
        return Pace(now, gap_s)

    def after_silence(self, now: float, gap_s: float, jitter: float) -> Pace:
        """It did not answer, or with an error of its own."""
        return Pace(now, max(gap_s, backoff_s(self.failures, jitter)), self.failures + 1)

    def after_busy(self, now: float, retry_after_s: float) -> Pace:
        """It asked to wait so long."""
        return Pace(now, min(max(retry_after_s, 1.0), _BUSY_MOST_S), self.failures)
