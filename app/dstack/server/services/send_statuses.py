"""Writes the commit statuses of a commit to the forge, each only when it changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial

from sqlmodel import Session

from dstack.errors import ForgeRefused
from dstack.server.decide.pacing import STATUS_FINAL_ONLY, STATUS_PROGRESS_MOST, next_progress
from dstack.server.gateways.forge_facts import Place
from dstack.server.gateways.forge_writes import StatusState, StatusWrite
from dstack.server.models import ForgeReport, OutboxMark, Repo
from dstack.server.models.run_facts import RunFacts
from dstack.server.report.status import is_about_to_be_judged, statuses_of
from dstack.server.store.outbox import STATUS
from dstack.server.store.reports import note_refused, note_sent, reports_of, split_target
from dstack.server.store.repos import repo_by_id
from dstack.server.store.run_facts import facts_of_commit
from dstack.server.wiring import Wiring, place_of
from dstack.wire.states import JobState

_SHORT = 100  # characters to fall back to when the forge counts in another way than we do
_AGAIN_S = 2.0


def send(wiring: Wiring, mark: OutboxMark) -> Generator[Callable[[], None], None, float | None]:
    """The target is `REPO-ID:SHA`."""
    repo_id, sha = split_target(mark)
    now = wiring.clock.now()
    repo, commit = wiring.db.read(lambda s: (repo_by_id(s, repo_id), facts_of_commit(s, repo_id, sha)))
    place = place_of(repo)
    wanted = statuses_of(commit, wiring.settings.public_url, now)
    known = wiring.db.read(lambda s: reports_of(s, repo_id, STATUS, [_target(status) for status in wanted]))
    for status in wanted:
        if _is_worth_writing(status, known.get(_target(status))):
            yield from _write_or_park(wiring, repo, place, status)
    return _look_again_at([*commit.runs, *commit.carried.values()], now)


def _target(status: StatusWrite) -> str:
    return f"{status.sha}:{status.context}"


def _digest(status: StatusWrite) -> str:
    """The state stands in front: it is asked for when there were many writes."""
    shown = f"{status.text}\n{status.url}"
    return f"{status.state.value}:{hashlib.sha256(shown.encode()).hexdigest()}"


def _is_worth_writing(status: StatusWrite, known: ForgeReport | None) -> bool:
    """It changed. Statuses cannot be deleted and are counted: near the limit only the ends go through."""
    if known is None:
        return True
    if known.digest == _digest(status):
        return False
    if known.writes >= STATUS_FINAL_ONLY:
        return status.state is not StatusState.PENDING
    return known.writes < STATUS_PROGRESS_MOST or known.digest.partition(":")[0] != status.state.value


def _write_or_park(
    wiring: Wiring, repo: Repo, place: Place, status: StatusWrite
) -> Generator[Callable[[], None], None, None]:
    """A text that is refused is sent once more shorter; a context that is refused then holds up no other."""
    repo_id = repo.id or 0
    try:
        yield partial(_write, wiring, repo_id, place, status, _digest(status))
    except ForgeRefused as refused:
        if refused.answer != 422:
            raise
        try:
            plain = replace(status, text=status.text.encode("ascii", "ignore").decode()[:_SHORT])
            yield partial(_write, wiring, repo_id, place, plain, _digest(status))
        except ForgeRefused as again:
            if again.answer != 422:
                raise
            problem = again.message
            wiring.db.write(lambda s: note_refused(s, repo_id, STATUS, _target(status), problem))


def _write(wiring: Wiring, repo_id: int, place: Place, status: StatusWrite, digest: str) -> None:
    wiring.forge.write_status(place, status)

    def note(session: Session) -> None:
        note_sent(session, repo_id, STATUS, _target(status), digest, wiring.clock.now())

    wiring.db.write(note)


def _look_again_at(runs: Sequence[RunFacts], now: float) -> float | None:
    """What a run waits for changes without its moving; and a verdict may come late."""
    times = []
    for run in (facts.run for facts in runs):
        if is_about_to_be_judged(run, now):
            times.append(now + _AGAIN_S)
        elif run.state in (JobState.WAITING, JobState.QUEUED):
            times.append(run.created_at + next_progress(max(0.0, now - run.created_at)))
    return min(times, default=None)
