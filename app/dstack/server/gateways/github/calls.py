"""Calls to one GitHub: as its App, as an installation of it, or as nobody. Knows tokens, redirects, pages and
unchanged answers, and none of the operations."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dstack.errors import ForgeDown, ForgeRefused, NotConnected
from dstack.server.gateways.forge_facts import AppCredentials
from dstack.server.gateways.github.answers import Answer, KeptAnswers, Params
from dstack.server.gateways.github.problems import answered_at, failure
from dstack.server.gateways.github.reading import items, moment, need_text
from dstack.server.gateways.github.tokens import Scope, Token, Tokens

if TYPE_CHECKING:
    from dstack.server.gateways.github.client import Client

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_PAGES = 100  # of 100 entries
_REDIRECTS = (301, 302, 307, 308)
_MOST_REDIRECTS = 3


class Calls:
    """Everything is sync and may be used from many threads at once. Raises what `gateways.forge` names."""

    def __init__(self, api_url: str, credentials: AppCredentials | None, timeout_s: float, api_version: str) -> None:
        from dstack.server.gateways.github.client import Client  # late: 12 MB and 0.3 s

        self._api_url = api_url
        self._headers = {"X-GitHub-Api-Version": api_version} if api_version else {}
        self._app = Client(api_url, timeout_s, credentials) if credentials is not None else None
        self._plain = Client(api_url, timeout_s)
        self._tokens = Tokens(self._make_token)
        self._kept = KeptAnswers()
        self.app_id = credentials.app_id if credentials is not None else 0

    def close(self) -> None:
        for client in (self._app, self._plain):
            if client is not None:
                client.close()

    # Who speaks

    def as_nobody(self, method: str, path: str, *, shown: str = "") -> Answer:
        """`shown` stands for the path in messages where that holds a secret."""
        return self._accept(self._send(self._plain, method, path, None, None, {}), f"{method} {shown or path}")

    def as_app(self, method: str, path: str, *, params: Params | None = None, body: Any = None) -> Answer:
        """Raises NotConnected without an App."""
        if self._app is None:
            raise NotConnected("no GitHub App is connected", "connect one: dstack github connect")
        found = self._send(self._app, method, path, params, body, {})
        if found[0] == 401:  # a signature made before the clock was set is kept for minutes; 401 has done nothing
            self._app.forget()
            found = self._send(self._app, method, path, params, body, {})
        return self._accept(found, f"{method} {path}")

    def at(
        self,
        installation: int,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        read: Callable[[Any], Any] | None = None,
    ) -> Answer:
        """As an installation. With `read` the answer is asked for again and again, and mostly the same: what that reads
        of it is the answer's data, and kept; `since` moves."""
        asked = sorted((params or {}).items())
        key = f"{installation} {path} {[one for one in asked if one[0] != 'since']}"
        kept = self._kept.find(key, str(asked)) if read is not None else None
        unless = {"If-None-Match": kept[0]} if kept else {}
        found = self._with_token(installation, method, path, params, body, unless)
        if found[0] == 304 and kept is not None:
            return kept[1]
        answer = self._accept(found, f"{method} {path}")
        return answer if read is None else self._kept.keep(key, str(asked), answer, read)

    def pages(self, ask: Callable[[Params], Answer], params: Params) -> Iterator[Answer]:
        """All pages, 100 entries each; a list that does not end is cut, and the log says so."""
        wanted: Params | None = {"per_page": 100, **params}
        for _ in range(MOST_PAGES):
            answer = ask(wanted or {})
            yield answer
            wanted = answer.next_page
            if wanted is None:
                return
        log.warning("a list of GitHub has over %d pages: the rest is not read", MOST_PAGES, extra={"action": "github"})

    def listed(self, installation: int, path: str, params: Params | None = None, *, key: str = "") -> Iterator[Any]:
        """The entries of a list at an installation, page by page; `key` names it where it is wrapped."""

        def ask(wanted: Params) -> Answer:
            return self.at(installation, "GET", path, params=wanted)

        for answer in self.pages(ask, params or {}):
            yield from items(answer.data.get(key) if key and isinstance(answer.data, Mapping) else answer.data)

    def polled(self, installation: int, path: str, params: Params, read: Callable[[Any], T]) -> Iterator[T]:
        """What `read` takes out of each entry of a list at an installation that is asked for again and again."""

        def ask(wanted: Params) -> Answer:
            return self.at(installation, "GET", path, params=wanted, read=lambda data: [*map(read, items(data))])

        for answer in self.pages(ask, params):
            yield from answer.data

    # Tokens

    def token_for(self, installation: int, repository: str, contents: str, *, kept: bool = False) -> str:
        """A token for the contents of one repository alone, `read` or `write`; a fresh one unless `kept`."""
        return self._tokens.get(Scope(installation, repository, contents), kept=kept)

    def _make_token(self, scope: Scope) -> Token:
        narrow = {"repositories": [scope.repository], "permissions": {"contents": scope.contents}}
        try:
            path = f"/app/installations/{scope.installation}/access_tokens"
            answer = self.as_app("POST", path, body=narrow if scope.repository else None)
        except ForgeRefused as error:
            if error.answer == 404:
                raise NotConnected(
                    "the App is not installed there any more", "its owner can install it again"
                ) from None
            raise
        now = answered_at(answer.headers)
        life = moment(answer.data, "expires_at") - (time.time() if now is None else now)
        return Token(need_text(answer.data, "token"), life)

    def _with_token(
        self, installation: int, method: str, path: str, params: Params | None, body: Any, more: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        scope = Scope(installation)
        for is_last in (False, True):
            token = self._tokens.get(scope)
            found = self._send(self._plain, method, path, params, body, {**more, "Authorization": f"token {token}"})
            if found[0] != 401 or is_last:
                break
            self._tokens.forget(scope, token)  # refused, so nothing was done: a write may be said again too
        if found[0] == 403 and b"not accessible by integration" in found[2]:
            self._tokens.forget(scope, token)  # it keeps the rights it was made with, and more may be granted soon
        return found

    # On the wire

    def _send(
        self, client: Client, method: str, path: str, params: Params | None, body: Any, more: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Follows what GitHub says of a renamed repository, and nobody to another host."""
        url = path
        for _ in range(_MOST_REDIRECTS + 1):
            found = client.send(method, url, params, body, {**self._headers, **more})
            if found[0] not in _REDIRECTS:
                return found
            url, params = self._same_host(found[1].get("location", "")), None
        raise ForgeRefused(f"GitHub sends {method} {path} from one address to the next", answer=found[0])

    def _same_host(self, location: str) -> str:
        ours, theirs = urlsplit(self._api_url), urlsplit(location)
        if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
            raise ForgeRefused(
                f"GitHub points to another host, {theirs.netloc or 'nowhere'}, and is not followed there",
                "set DSTACK_GITHUB_API_URL to the address it really has",
                answer=301,
            )
        return location

    def _accept(self, found: tuple[int, Mapping[str, str], bytes], what: str) -> Answer:
        status, headers, content = found
        try:
            data = json.loads(content) if content else None
        except ValueError:
            if status < 300:
                raise ForgeDown(f"what answered {what} is not GitHub's API", "look at DSTACK_GITHUB_API_URL") from None
            data = None
        if not 200 <= status < 300:
            raise failure(what, status, headers, data, time.time())
        return Answer(status, data, headers)
