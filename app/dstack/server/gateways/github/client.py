"""githubkit, held to our rules: nothing is repeated, nothing waits without end, threads share connections.

The only module that imports githubkit, and itself imported late: an idle server without GitHub does not pay for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from githubkit import AppAuthStrategy, BaseAuthStrategy, GitHub, GitHubCore, UnauthAuthStrategy
from githubkit.auth.app import AppAuth
from githubkit.cache import MemCacheStrategy
from githubkit.exception import RequestError, RequestFailed, RequestTimeout

from dstack.errors import ForgeDown, NotConnected
from dstack.server.gateways.forge_facts import AppCredentials
from dstack.version import __version__

# It writes down every address, with the code of an App's registration in one of them.
logging.getLogger("httpx").setLevel(logging.WARNING)
_KEPT_OPEN_S = 45.0  # polling comes every 15 s, and a new TLS connection costs 50 ms and more


class Client:
    """HTTP to one GitHub. Without credentials it speaks as nobody, else as the App; other tokens go in the headers."""

    def __init__(self, api_url: str, timeout_s: float, credentials: AppCredentials | None = None) -> None:
        self._timeout_s, self._signs = timeout_s, credentials is not None
        self._kept = MemCacheStrategy()  # the default is one for the whole process: an old key's JWT would stay in it
        auth: BaseAuthStrategy = UnauthAuthStrategy()
        if credentials is not None:
            auth = _AppStrategy(credentials.app_id, credentials.private_key)
        self._kit = _Kit(
            auth,
            base_url=api_url,
            timeout=timeout_s,
            user_agent=f"dstack/{__version__}",
            auto_retry=False,
            follow_redirects=False,
            http_cache=False,
            cache_strategy=self._kept,
        )

    def send(
        self, method: str, url: str, params: Mapping[str, str | int] | None, json: Any, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """(status, headers by lower-case name, body), whatever the status. Raises ForgeDown, and NotConnected for a
        private key that is none."""
        try:
            found = self._kit.request(method, url, params=dict(params or {}), json=json, headers=dict(headers))
            raw = found.raw_response
        except RequestFailed as error:
            raw = error.response.raw_response
        except RequestTimeout:
            raise ForgeDown(f"GitHub did not answer within {self._timeout_s:g} s", "it is tried again") from None
        except RequestError as error:
            raise self._failure(error.exc) from None
        except RuntimeError as error:
            raise self._failure(error) from None
        return raw.status_code, {key.lower(): value for key, value in raw.headers.items()}, raw.content

    def forget(self) -> None:
        """Make the App's next sign anew: GitHub refused it."""
        self._kept.cleanup()

    def close(self) -> None:
        self._kit.close()

    def _failure(self, error: Exception) -> ForgeDown | NotConnected:
        """RuntimeError: the connection was closed under the call. What else comes out of one comes from signing it."""
        if self._signs and not isinstance(error, httpx.HTTPError | RuntimeError):
            hint = "store the .pem file GitHub gave you, with its first and last line"
            return NotConnected("the App's private key cannot be read", hint)
        words = (str(error) or type(error).__name__)[:200]
        return ForgeDown(f"GitHub cannot be reached: {words}", "it is tried again")


class _AppStrategy(AppAuthStrategy):
    """githubkit chooses between App and installation by the address; after a redirect it would not know it."""

    def get_auth_flow(self, github: GitHubCore[Any]) -> httpx.Auth:
        return _Signed(github, self.app_id, self.private_key)


class _Signed(AppAuth):
    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self.get_jwt()}"
        yield request


class _Kit(GitHub[Any]):
    """githubkit opens a connection for every call; entering it would share one, but for a single thread only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._guard = threading.Lock()
        self._shared: httpx.Client | None = None
        self._calls = 0  # under way
        self._is_closed = False

    @contextmanager
    def get_sync_client(self) -> Generator[httpx.Client, None, None]:
        with self._guard:
            if self._is_closed:  # a thread still holds what another has let go of: it must not open it again
                raise RuntimeError("the connection was closed")
            if self._shared is None:
                self._shared = self._create_sync_client()
            client = self._shared
            self._calls += 1
        try:
            yield client
        finally:
            with self._guard:
                self._calls -= 1
                if self._is_closed and not self._calls:
                    client.close()

    def _get_client_defaults(self) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=20, max_keepalive_connections=10, keepalive_expiry=_KEPT_OPEN_S)
        return {**super()._get_client_defaults(), "limits": limits}

    def _check_rate_limit(self, response: Any) -> None:
        """We read the headers ourselves: githubkit stumbles over a date in `retry-after`."""

    def close(self) -> None:
        """After the calls under way: one that is just connecting would leave its socket behind."""
        with self._guard:
            self._is_closed = True
            if self._shared is not None and not self._calls:
                self._shared.close()
