"""One tree of errors: what happened, where, and what to do; each names its HTTP status and its exit code."""

from __future__ import annotations

from typing import ClassVar


class DstackError(Exception):
    """What happened (`message`) and what to do about it (`hint`, may be empty).

    `code` is the stable machine-readable name that travels in `{"error": code, ...}`; `status` the HTTP status and
    `exit_code` the process exit code that stand for it: declared here once, so no door keeps a table of its own.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Invalid(DstackError):
    """The input is understood but wrong: a name, a value, a combination. Nothing was changed."""

    code = "invalid"
    status = 422


class Malformed(DstackError):
    """The input cannot be read at all (not JSON, a bad offset, a wrong header)."""

    code = "malformed"
    status = 400


class Usage(DstackError):
    """The command line is wrong."""

    code = "usage"
    status = 400
    exit_code = 2


class NotSignedIn(DstackError):
    """No token, an unknown one, or an expired one."""

    code = "not_signed_in"
    status = 401
    exit_code = 4


class NotAllowed(DstackError):
    """Signed in, and not allowed to do this."""

    code = "not_allowed"
    status = 403
    exit_code = 4


class NotFound(DstackError):
    """There is no such thing, or the caller may not know of it: both read the same."""

    code = "not_found"
    status = 404
    exit_code = 5


class Conflict(DstackError):
    """It is not possible in the present state, and a repetition will not help."""

    code = "conflict"
    status = 409


class LeaseLost(Conflict):
    """The attempt is no longer this runner's: it must stop the job and write nothing more."""

    code = "lease_lost"


class OffsetMismatch(Conflict):
    """An append does not start where the stored bytes end; `expected` is the offset to send from."""

    code = "offset_mismatch"

    def __init__(self, message: str, hint: str = "", *, expected: int = 0) -> None:
        super().__init__(message, hint)
        self.expected = expected


class TooLarge(DstackError):
    """A body, file or list is over its stated limit."""

    code = "too_large"
    status = 413


class TooSlow(DstackError):
    """A body did not come in whole in the time it may take."""

    code = "too_slow"
    status = 408


class UnsupportedMedia(DstackError):
    """The body is in a form this door does not read."""

    code = "unsupported_media"
    status = 415


class UnsupportedVersion(DstackError):
    """The peer speaks a protocol version this side does not."""

    code = "unsupported_version"
    status = 426


class TooMany(DstackError):
    """Calls come faster than allowed; try again after `retry_after` seconds."""

    code = "too_many"
    status = 429

    def __init__(self, message: str, hint: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class Unavailable(DstackError):
    """The server cannot take this now (disk full, database locked); nothing was changed and a retry may succeed."""

    code = "unavailable"
    status = 503


class Unreachable(DstackError):
    """No server answered at the configured address."""

    code = "unreachable"
    status = 502
    exit_code = 6


class GitFailed(DstackError):
    """A git command failed; the message carries what git said, without credentials."""

    code = "git_failed"
    status = 422


class ConfigProblems(DstackError):
    """Files under `.dstack/` have problems; the message lists them one a line as `file:line:column: ...`."""

    code = "config"
    status = 422


class ForgeFailed(DstackError):
    """The forge (GitHub) did not do what was asked."""

    code = "forge"
    status = 502


class NotConnected(ForgeFailed):
    """No App is connected, or its installation is gone or suspended: asking again does not help until that changes."""

    code = "not_connected"


class ForgeRefused(ForgeFailed):
    """The forge understood and said no; the same request will be refused again. `answer` is its HTTP status."""

    code = "forge_refused"

    def __init__(self, message: str, hint: str = "", *, answer: int = 0) -> None:
        super().__init__(message, hint)
        self.answer = answer


class ForgeBusy(ForgeFailed):
    """The forge asks to wait `retry_after` seconds (a rate limit)."""

    code = "forge_busy"

    def __init__(self, message: str, hint: str = "", *, retry_after: float = 60) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ForgeDown(ForgeFailed):
    """The forge did not answer, or with a server error: it may or may not have done what was asked."""

    code = "forge_down"
