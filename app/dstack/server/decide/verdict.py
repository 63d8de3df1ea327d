"""What a gate says of a run that succeeded: a record beside its state, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dstack.language.gate_outcome import Answer, Values, evaluate
from dstack.language.gates import metrics_in, parse_gate
from dstack.language.quantities import Wrong
from dstack.wire.states import Verdict

MAX_WHY = 1000
LETS_PASS = frozenset({Verdict.PASSED, Verdict.WITHIN_NOISE, Verdict.NO_BASE})

_VERDICTS = {
    Answer.NO: Verdict.FAILED,
    Answer.BROKEN: Verdict.FAILED,
    Answer.AWAITED: Verdict.PENDING,
    Answer.UNKNOWN: Verdict.NO_BASE,
    Answer.NOISE: Verdict.WITHIN_NOISE,
    Answer.YES: Verdict.PASSED,
}


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """The run compared with; `metrics` None: it has not ended."""

    name: str
    metrics: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """`why` in words, such as `accuracy 0.934 >= base 0.922 - 0.01`."""

    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is judged against: its base, the last runs of the base (the newest first), and the metrics of runs
    that carry the tags its gate names."""

    base: BaseFacts | None = None
    history: Sequence[Mapping[str, float]] = ()
    tags: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def judge(gate: str, metrics: Mapping[str, float], around: Surroundings) -> Judgement:
    """The verdict on the metrics of a run. A gate that cannot be read fails, and says why."""
    try:
        tree = parse_gate(gate)
    except Wrong as wrong:
        return Judgement(Verdict.FAILED, str(wrong)[:MAX_WHY])
    base = around.base
    values = Values(
        run=metrics,
        base=base.metrics if base is not None else None,
        base_name=base.name if base is not None else "",
        base_awaited=base is not None and base.metrics is None,
        history=around.history,
        tags=around.tags,
    )
    outcome = evaluate(tree, values)
    return Judgement(_VERDICTS[outcome.answer], outcome.why[:MAX_WHY])


def tags_named(gate: str | None) -> tuple[str, ...]:
    """The tags whose runs a gate asks about."""
    try:
        return tuple(dict.fromkeys(m.tag for m in metrics_in(parse_gate(gate)) if m.tag)) if gate else ()
    except Wrong:
        return ()
