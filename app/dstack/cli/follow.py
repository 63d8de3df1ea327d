"""Stays with a run: says what it waits for, prints its log as it comes, waits for its end, and knows its exit code.

A server that is away for a while does not end this: the log goes on from the byte it stopped at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from dstack.cli import output, quantities, terminal
from dstack.cli.logtext import TerminalFilter
from dstack.client import Client, Json
from dstack.client.api import LOG_OFFSET_HEADER
from dstack.client.refusal import plain
from dstack.errors import TooMany, Unavailable, Unreachable
from dstack.wire.states import FINAL_STATES, JobState

PATIENCE_S = 600.0
TIMED_OUT = 124
RUN_FAILED = 3
GATE_FAILED = 7
VERDICT_S = 10.0
_NOT_BEGUN = frozenset({JobState.WAITING, JobState.QUEUED, JobState.OFFERED})
_AWAY = (Unreachable, Unavailable, TooMany)


def exit_code_of(run: Json) -> int:
    """0 for success, 7 for success with a failed gate, 3 for every other end."""
    if run["state"] != JobState.SUCCEEDED:
        return RUN_FAILED
    return GATE_FAILED if run.get("verdict") == "failed" else 0


def is_final(run: Json) -> bool:
    return run["state"] in FINAL_STATES


def follow(client: Client, name: str, *, job: str = "", offset: int = 0) -> int:
    """Print the run's log until its end and answer its exit code. Ctrl-C leaves the run alone and says so (130)."""
    try:
        wait_for_begin(client, name)
        run = print_log(client, name, job=job, offset=offset)
    except KeyboardInterrupt:
        terminal.tell(f"\nThe run goes on. Come back: dstack logs -f {name}    Stop it: dstack stop {name}")
        return 130
    except BrokenPipeError:
        terminal.tell(f"The output was closed; the run {name} goes on.")
        raise
    run = wait_for_verdict(client, run)
    print_end(run)
    return exit_code_of(run)


def wait_for_begin(client: Client, name: str) -> Json:
    """The run once it has begun or ended; tells what it waits for whenever that changes."""
    said, pause = "", 0.1
    run = client.run(name)  # the first answer is not waited for: a wrong address or name is said at once
    while True:
        if run["state"] not in _NOT_BEGUN:
            return run
        reason = output.short_reason(run)
        if reason and reason != said:
            terminal.tell(reason if run["state"] == JobState.WAITING else f"{run['state']}: {reason}")
            said = reason
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)
        run = _patiently(lambda: client.run(name))


def print_log(client: Client, name: str, *, job: str = "", offset: int = 0, until_end: bool = True) -> Json:
    """Write the log to standard output, to a terminal without what commands it, elsewhere byte by byte.

    `until_end` follows until the run is final and answers it then; else what is there now is printed.
    """
    write = _writer()
    away_since: float | None = None
    while True:
        start = offset
        try:
            with client.log(name, job=job, offset=offset, follow=until_end) as stream:
                offset = max(offset, int(stream.headers.get(LOG_OFFSET_HEADER) or offset))
                for data in stream:
                    write(data)
                    offset += len(data)
            away_since = None
        except _AWAY as error:
            away_since = time.monotonic() if away_since is None or offset > start else away_since
            if time.monotonic() - away_since > PATIENCE_S:
                raise
            _tell_away(error)
        run = _patiently(lambda: client.run(name))
        if away_since is None and (is_final(run) or not until_end):
            return run
        if offset == start:
            time.sleep(0.5)  # an empty answer of a run still going: a server that was just restarted


def wait_for_end(client: Client, name: str, timeout_s: float | None = None) -> Json | None:
    """The run at its end, or None when it took longer than `timeout_s`."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    client.run(name)  # a wrong address or name is said at once
    while True:
        left = 25.0 if deadline is None else deadline - time.monotonic()
        run = _patiently(lambda left=left: client.wait(name, left), deadline)  # type: ignore[misc]
        if is_final(run):
            return run
        left = 1.0 if deadline is None else deadline - time.monotonic()
        if left <= 0:
            return None
        if left < 1:  # the server counts whole seconds
            time.sleep(min(left, 0.1))


def wait_for_verdict(client: Client, run: Json) -> Json:
    """The run once its gate has been judged, which follows its end at once; a verdict that hangs on a base that still
    trains is not waited for."""
    deadline, pause = time.monotonic() + VERDICT_S, 0.05
    name = run["name"]
    while output.is_unjudged(run) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(1.0, pause * 2)
        run = _patiently(lambda: client.run(name), deadline)
    return run


def print_end(run: Json) -> None:
    """One line about how it ended, on standard error: standard output is the log's."""
    on = terminal.has_colour(sys.stderr)
    state = terminal.paint(run["state"], output.STATE_COLOURS.get(run["state"], ""), on=on)
    took = quantities.elapsed(run["started_at"], run["finished_at"], output.now())
    why = output.short_reason(run)
    words = [f"{plain(run['name'])} {state}" + (f" in {took}" if took else ""), why, output.headline(run)]
    if verdict := output.verdict(run):
        words.append(f"gate {verdict}")
    terminal.tell(", ".join(filter(None, words)))
    for job in run["jobs"]:
        if job.get("message") and run["state"] != JobState.SUCCEEDED:
            terminal.tell(f"  {plain(job['message'])}")


def _patiently(call: Callable[[], Json], deadline: float | None = None) -> Json:
    """Repeat a question while the server is away, for ten minutes or until the deadline."""
    limit = time.monotonic() + PATIENCE_S
    limit = limit if deadline is None else min(limit, deadline)
    told = False
    while True:
        try:
            return call()
        except _AWAY as error:
            if time.monotonic() >= limit:
                raise
            if not told:
                _tell_away(error)
                told = True
            time.sleep(1.0)


def _tell_away(error: Exception) -> None:
    terminal.tell(f"dstack: {error}; trying again (the run does not depend on it)")


def _writer() -> Callable[[bytes], None]:
    if not terminal.is_terminal(sys.stdout):
        return _write_bytes
    filtered = TerminalFilter()

    def write(data: bytes) -> None:
        sys.stdout.write(filtered.feed(data))
        sys.stdout.flush()

    return write


def _write_bytes(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
