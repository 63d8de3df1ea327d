"""Which commit statuses a commit should have: one per workflow and kind of run, one per tag, one per artifact; pure.

`dstack/WORKFLOW` belongs to clean runs alone (by push or pull request, with default variables), so that no run with
other variables turns a required status green.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dstack.server.decide.speaking import Aim, is_moot, who_speaks
from dstack.server.gateways.forge_writes import StatusState, StatusWrite
from dstack.server.models import Artifact, Run
from dstack.server.models.run_facts import CommitFacts, RunFacts
from dstack.server.report import status_words as words
from dstack.server.report.voices import voice_of
from dstack.wire.states import JobState, Reason, Trigger, Verdict

TEXT_MOST = 140  # characters; more is refused
_JUDGED_WITHIN_S = 2.0  # a verdict is a moment behind its run: what stands there is left until then
_LIVE_OR_OFFERED = (JobState.OFFERED, JobState.PREPARING, JobState.RUNNING, JobState.SAVING)


def statuses_of(commit: CommitFacts, public_url: str, now: float) -> list[StatusWrite]:
    """Ends first. A run whose verdict is due any moment has none: the last one stays."""
    unstarted, aims = {f"dstack/{row.workflow}" for row in commit.not_needed}, _aims(commit)
    speaking = {
        context: facts
        for context, facts in speakers_of(commit).items()
        if not (context in unstarted and is_moot(voice_of(facts.run), aims))
    }
    found = [
        StatusWrite(commit.sha, context, *status_of(facts), run_url(public_url, facts.run))
        for context, facts in speaking.items()
        if not is_about_to_be_judged(facts.run, now)
    ]
    found += _not_needed(commit, speaking, public_url, now)
    found += _tags(commit, public_url)
    found += _artifacts(commit, public_url)
    return sorted(found, key=lambda status: status.state is StatusState.PENDING)


def speakers_of(commit: CommitFacts) -> dict[str, RunFacts]:
    """Context -> the run that speaks there. Where several count, the worst of them does: it may gate a merge."""
    there: dict[str, dict[int, RunFacts]] = {}
    for facts in commit.runs:
        there.setdefault(context_of(facts.run), {})[facts.run.id or 0] = facts
    found = {}
    for context, runs in there.items():
        voices = [voice_of(facts.run) for facts in runs.values()]
        heard = [runs[run_id] for run_id in who_speaks(voices, _aims(commit))]
        found[context] = min(heard, key=lambda facts: (_FROM_WORST.index(status_of(facts)[0]), -(facts.run.id or 0)))
    return found


def _aims(commit: CommitFacts) -> list[Aim]:
    return [(pull.number, pull.base_branch) for pull in commit.pulls]


_FROM_WORST = (StatusState.FAILURE, StatusState.ERROR, StatusState.PENDING, StatusState.SUCCESS)


def context_of(run: Run) -> str:
    """The status a run writes to."""
    kind = "" if run.is_clean else " (schedule)" if run.trigger is Trigger.SCHEDULE else " (manual)"
    return f"dstack/{run.workflow}{kind}"


def run_url(public_url: str, run: Run) -> str:
    return f"{public_url}/runs/{run.name}"


def is_about_to_be_judged(run: Run, now: float) -> bool:
    """It succeeded this moment and its gate has not been asked yet."""
    waits = run.state is JobState.SUCCEEDED and run.gate is not None and run.verdict is None
    return waits and now - (run.finished_at or now) < _JUDGED_WITHIN_S


def status_of(facts: RunFacts) -> tuple[StatusState, str]:
    """What the forge shows of a run: its state there, and the text."""
    state, text = _state_and_text(facts)
    if facts.adopted is not None and facts.run.state is JobState.SUCCEEDED:  # else the text says so already
        text = " · ".join(part for part in (f"same as {facts.adopted.name}", text) if part)
    return state, words.one_line(text, TEXT_MOST)


def _state_and_text(facts: RunFacts) -> tuple[StatusState, str]:
    run = facts.run
    if run.is_held and not run.state.is_final:
        return StatusState.PENDING, f"waits for approval: /dstack approve {words.short(run.sha)}"
    if run.state in _LIVE_OR_OFFERED:
        return StatusState.PENDING, _where_it_runs(facts)
    if run.state is JobState.SUCCEEDED:
        return _judged(facts)
    if run.state is JobState.FAILED:
        return StatusState.FAILURE, _with_time("failed", run, words.why_ended(run))
    if run.state is JobState.STOPPED:
        return _stopped(run)
    if run.state is JobState.SKIPPED:
        return _skipped(run)
    return StatusState.PENDING, facts.waits_for or run.state.value


def _where_it_runs(facts: RunFacts) -> str:
    if not facts.runners:
        return "queued"
    also = f" and {len(facts.runners) - 1} more" if len(facts.runners) > 1 else ""
    since = facts.run.started_at
    return f"{facts.runners[0]}{also}" + (f", since {words.clock(since)}" if since is not None else "")


def _judged(facts: RunFacts) -> tuple[StatusState, str]:
    run = facts.run
    metrics = run.metrics or (facts.adopted.metrics if facts.adopted is not None else {})
    took = "" if facts.adopted is not None else words.run_duration(run)
    number = words.headline(run, metrics, facts.base.metrics if facts.base is not None else {})
    state, verdict = _verdict(run, facts.base)
    parts = (verdict, number, took) if state is StatusState.FAILURE else (took, number, verdict)
    return state, " · ".join(part for part in parts if part) or "succeeded"


def _verdict(run: Run, base: Run | None) -> tuple[StatusState, str]:
    match run.verdict:
        case Verdict.FAILED:
            return StatusState.FAILURE, "gate failed" + (f": {run.verdict_why}" if run.verdict_why else "")
        case Verdict.PENDING:
            return StatusState.PENDING, f"judged when {base.name if base is not None else 'its base'} lands"
        case Verdict.WITHIN_NOISE:
            return StatusState.SUCCESS, "within noise"
        case Verdict.NO_BASE:
            return StatusState.SUCCESS, "first result"
        case None if run.gate is not None:
            return StatusState.PENDING, "judging"
    return StatusState.SUCCESS, ""


def _with_time(what: str, run: Run, why: str) -> str:
    took = words.run_duration(run)
    return what + (f" after {took}" if took else "") + (f": {why}" if why else "")


def _stopped(run: Run) -> tuple[StatusState, str]:
    """The message is whoever stopped it, or the run that took its place; anything longer says all by itself."""
    is_name = bool(run.message) and " " not in run.message
    if run.reason is Reason.SUPERSEDED_BY:
        return StatusState.ERROR, f"superseded by {run.message}" if is_name else _with_time("stopped", run, run.message)
    what = f"stopped by {run.message}" if is_name else "stopped"
    return StatusState.FAILURE, _with_time(what, run, "" if is_name else run.message)


def _skipped(run: Run) -> tuple[StatusState, str]:
    if run.reason is Reason.NOT_NEEDED:
        return StatusState.SUCCESS, _saying_so("not needed", run.message)
    return StatusState.FAILURE, _saying_so("skipped", run.message)


def _saying_so(what: str, why: str) -> str:
    return why if why.startswith(what) else f"{what}: {why}" if why else what


def _not_needed(commit: CommitFacts, speaking: Collection[str], public_url: str, now: float) -> list[StatusWrite]:
    """Workflows that were not started, and files with problems. A run of the workflow says more; one on the commit that
    speaks for this one is told of until it has succeeded."""
    found = []
    for row in commit.not_needed:
        context, carried = f"dstack/{row.workflow}", commit.carried.get(row.workflow)
        if row.is_problem:
            state = StatusState.ERROR if row.why else StatusState.SUCCESS
            text = words.one_line(_first_problem(row.why), TEXT_MOST) if row.why else words.READ_SINCE
            found.append(StatusWrite(commit.sha, "dstack/config", state, text, public_url))
        elif context in speaking or (carried is not None and is_about_to_be_judged(carried.run, now)):
            continue
        elif carried is not None and (state := status_of(carried)[0]) is not StatusState.SUCCESS:
            url = run_url(public_url, carried.run)
            found.append(StatusWrite(commit.sha, context, state, _carried_over(carried.run), url))
        else:
            text = words.one_line(_saying_so("not needed", row.why), TEXT_MOST)
            found.append(StatusWrite(commit.sha, context, StatusState.SUCCESS, text, public_url))
    return found


def _carried_over(run: Run) -> str:
    """`brave-otter-17 failed at abc1234; nothing it reads changed since`. What was stopped is started by no commit that
    changes nothing it reads: the command that does is told."""
    stands = _STANDS.get(run.state, "goes on")
    if run.state is JobState.SUCCEEDED:
        stands = "failed its gate" if run.verdict is Verdict.FAILED else "waits for its verdict"
    again = f": dstack restart {run.name}" if run.state is JobState.STOPPED else ""
    said = f"{run.name} {stands} at {words.short(run.sha)}; nothing it reads changed since{again}"
    return words.one_line(said, TEXT_MOST)


_STANDS = {JobState.FAILED: "failed", JobState.STOPPED: "was stopped", JobState.SKIPPED: "was skipped"}


def _first_problem(why: str) -> str:
    first, *others = why.splitlines() or [why]
    return f"{first} (and {len(others)} more)" if others else first


def _tags(commit: CommitFacts, public_url: str) -> list[StatusWrite]:
    found = []
    for tag in commit.tags:
        if tag.sha == commit.sha:
            text = f"on {tag.run_name}"
        else:
            text = f"moved to {words.short(tag.sha)}" if tag.sha else "removed"
        url = f"{public_url}/runs/{tag.run_name}" if tag.run_name else public_url
        found.append(StatusWrite(commit.sha, f"dstack/tag/{tag.label}", StatusState.SUCCESS, text, url))
    return found


def _artifacts(commit: CommitFacts, public_url: str) -> list[StatusWrite]:
    """Of each workflow the newest run that succeeded and stored something, clean ones first."""
    stored = [f for f in commit.runs if f.run.state is JobState.SUCCEEDED and f.artifacts]
    chosen = {facts.run.workflow: facts for facts in sorted(stored, key=lambda facts: facts.run.is_clean)}
    return [
        StatusWrite(
            commit.sha,
            f"dstack/artifacts/{workflow}",
            StatusState.SUCCESS,
            artifacts_text(facts.artifacts),
            run_url(public_url, facts.run),
        )
        for workflow, facts in chosen.items()
    ]


def artifacts_text(artifacts: Sequence[Artifact]) -> str:
    """`checkpoint, logs 1.2 GB · sha256:12ab34cd56ef…`: all of them together, and the digest of the first."""
    total = words.size(sum(artifact.bytes for artifact in artifacts))
    digest = f"sha256:{artifacts[0].digest.removeprefix('sha256:')[:12]}…"
    names = words.one_line(", ".join(artifact.path for artifact in artifacts), TEXT_MOST - len(total) - len(digest) - 4)
    return f"{names} {total} · {digest}"
