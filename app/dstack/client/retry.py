"""Which calls may be repeated and how long to wait before that; pure, knows neither sockets nor clocks."""

from __future__ import annotations

RETRY_STATUSES = frozenset({429, 502, 503, 504})
SAFE_METHODS = frozenset({"GET", "HEAD", "PUT", "DELETE"})
MAX_TRIES = 5
REFUSED_TRIES = 3  # nobody listens, and nobody was met there yet: a wrong address stays one
MET_TRIES = 10  # about 20 s: the server was met a moment ago, so it is being restarted
FIRST_DELAY_S = 0.2
MAX_DELAY_S = 5.0
MAX_RETRY_AFTER_S = 30.0


def may_repeat(method: str, *, keyed: bool) -> bool:
    """Whether a second sending is harmless: by the method's meaning, or because the call carries an idempotency key."""
    return keyed or method in SAFE_METHODS


def delay_before_retry(
    tries: int, *, status: int | None, refused: bool, met: bool, retry_after: str | None, jitter: float
) -> float | None:
    """Seconds to wait before the next try of a repeatable call, or None to give up.

    `tries` counts those made; `status` is None when no answer came, `refused` when nobody listened there, `met` when
    the server was reached before. `jitter` is a random number of [0, 1): clients that failed together must not return
    together.
    """
    if status is not None and status not in RETRY_STATUSES:
        return None
    limit = REFUSED_TRIES if refused else MAX_TRIES
    if tries >= (MET_TRIES if met and status is None else limit):
        return None
    asked = read_retry_after(retry_after)
    if asked is not None:
        return asked if asked <= MAX_RETRY_AFTER_S else None
    return min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** (tries - 1)) * (0.5 + 0.5 * jitter)


def read_retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header; None when it is absent or not a plain number (our server sends no dates)."""
    text = (value or "").strip()
    return float(text) if text.isascii() and text.isdigit() else None
