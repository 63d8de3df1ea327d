"""Rate limits: calls an hour, and on demand GitHub's secondary limits for writes."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fake_github.routing import Caller, Refusal

SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
WRITES_A_MINUTE = 80


class Budget:
    """What every caller has used up in its hour. `enforce_pacing` also refuses writes side by side and more than 80
    of them a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._used: dict[str, tuple[float, int]] = {}
        self._writing: dict[str, int] = defaultdict(int)
        self._writes: dict[str, deque[float]] = defaultdict(deque)
        self.per_hour = 5000
        self.enforce_pacing = False
        self.retry_after_s = 60

    def count(self, caller: Caller) -> None:
        """One more call. Raises Refusal 403 when the hour's are used up."""
        key = _key(caller)
        with self._guard:
            reset, used = self._window(key)
            if used >= self._limit(caller):
                spent = True
            else:
                self._used[key] = (reset, used + 1)
                spent = False
        if spent:
            raise Refusal(403, f"API rate limit exceeded for installation ID {key}.", self.headers(caller))

    def headers(self, caller: Caller) -> dict[str, str]:
        with self._guard:
            reset, used = self._window(_key(caller))
        limit = self._limit(caller)
        return {
            "X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(max(0, limit - used)),
            "X-RateLimit-Used": str(used), "X-RateLimit-Reset": str(int(reset)), "X-RateLimit-Resource": "core",
        }  # fmt: skip

    def _limit(self, caller: Caller) -> int:
        known = caller.app or caller.installation or caller.account
        return self.per_hour if known else min(60, self.per_hour)

    def _window(self, key: str) -> tuple[float, int]:
        now = self._clock()
        reset, used = self._used.get(key, (now + 3600, 0))
        return (reset, used) if reset > now else (now + 3600, 0)

    @contextmanager
    def writing(self, caller: Caller) -> Iterator[None]:
        """A content-creating call under way. Raises Refusal 403 where the secondary limits are kept."""
        key = _key(caller)
        with self._guard:
            recent, now = self._writes[key], self._clock()
            while recent and recent[0] <= now - 60:
                recent.popleft()
            refused = self.enforce_pacing and (self._writing[key] > 0 or len(recent) >= WRITES_A_MINUTE)
            if not refused:
                self._writing[key] += 1
                recent.append(now)
        if refused:
            raise Refusal(403, SECONDARY, {"Retry-After": str(self.retry_after_s)})
        try:
            yield
        finally:
            with self._guard:
                self._writing[key] -= 1


def _key(caller: Caller) -> str:
    if caller.installation is not None:
        return str(caller.installation.id)
    if caller.app is not None:
        return f"app-{caller.app.id}"
    return caller.account.login if caller.account is not None else "anonymous"
