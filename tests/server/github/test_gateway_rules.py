"""How GitHub's answers are read: tables of refusals, odd payloads, pages and redirects; and what stays unloaded."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dstack.errors import ForgeBusy, ForgeDown, ForgeFailed, ForgeRefused, NotConnected
from dstack.server.gateways.forge_facts import AppCredentials, Permission, Place
from dstack.server.gateways.github import GitHub, reading
from dstack.server.gateways.github.addresses import named_repo
from dstack.server.gateways.github.answers import Answer, KeptAnswers
from dstack.server.gateways.github.problems import failure

NOW = 1_800_000_000.0
DATE = {"date": "Fri, 15 Jan 2027 08:00:00 GMT"}  # NOW
USED_UP = {"x-ratelimit-remaining": "0"}


def told(status: int, headers: Mapping[str, str], message: Any = "No") -> ForgeFailed:
    return failure("GET /x", status, headers, message if isinstance(message, list) else {"message": message}, NOW)


WAITS: list[tuple[int, dict[str, str], str, float]] = [
    (403, {"retry-after": "17"}, "", 17),
    (429, {"retry-after": "17"}, "", 17),
    (429, {}, "", 60),
    (403, {}, "You have exceeded a secondary rate limit.", 60),
    (403, {}, "You have triggered an abuse detection mechanism.", 60),
    (403, {"retry-after": "soon"}, "", 60),
    (403, {"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT", **DATE}, "", 30),
    (403, {"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, "", 30),
    (403, {**USED_UP, "x-ratelimit-reset": str(int(NOW + 90))}, "", 90),
    (403, {**USED_UP, "x-ratelimit-reset": str(int(NOW + 90)), "date": "Fri, 15 Jan 2027 08:01:00 GMT"}, "", 30),
    (403, {**USED_UP, "x-ratelimit-reset": str(int(NOW - 5))}, "", 1),
    (403, {**USED_UP, "x-ratelimit-reset": str(int(NOW + 9e9))}, "", 3600),
    (403, {**USED_UP, "x-ratelimit-reset": "never"}, "", 60),
    (403, {"retry-after": "0"}, "", 1),
]


@pytest.mark.parametrize(("status", "headers", "message", "wait"), WAITS)
def test_how_long_to_wait(status: int, headers: dict[str, str], message: str, wait: float) -> None:
    error = told(status, headers, message)
    assert isinstance(error, ForgeBusy)
    assert error.retry_after == wait


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451])
def test_what_is_refused(status: int) -> None:
    error = told(status, {"x-ratelimit-remaining": "4999"}, "Resource not accessible by integration")
    assert isinstance(error, ForgeRefused) and error.answer == status
    assert "Resource not accessible by integration" in error.message and str(status) in error.message


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
def test_what_may_have_been_done(status: int) -> None:
    assert isinstance(told(status, {}), ForgeDown)


def test_a_suspended_installation_is_no_connection() -> None:
    assert isinstance(told(403, {}, "This installation has been suspended"), NotConnected)


def test_hints_say_what_to_mend() -> None:
    assert "statuses=write" in told(403, {"x-accepted-github-permissions": "statuses=write"}).hint
    assert "clock" in told(401, {"date": "Fri, 15 Jan 2027 08:02:00 GMT"}).hint
    assert "doctor" in told(401, DATE).hint
    assert told(404, {}).hint


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "Validation Failed", "errors": [{"message": "too long"}]}, "Validation Failed; too long"),
        ({"message": "V", "errors": [{"field": "name", "code": "missing"}, "plain"]}, "V; name missing; plain"),
        ({"message": "a\x1b[31m\nb\x00"}, "a [31m b"),
        ({"message": "x" * 5000}, "x" * 400),
        ({"message": None, "errors": "odd"}, ""),
        (["not", "a", "mapping"], ""),
        (None, ""),
    ],
)
def test_github_s_words_on_one_line(body: Any, words: str) -> None:
    message = failure("GET /x", 422, {}, body, NOW).message
    assert message.removeprefix("GitHub answered 422 to GET /x").removeprefix(": ").strip() == words.strip()


# Payloads


@pytest.mark.parametrize("data", [None, [], {}, "text", 7, {"id": "seven"}, {"head": None, "base": 3}])
@pytest.mark.parametrize(
    "read",
    [
        reading.read_repo, reading.read_pull, reading.read_comment, reading.read_delivery, reading.read_installation,
        reading.read_new_app,
    ],
)  # fmt: skip
def test_an_answer_without_what_it_always_has_is_an_outage(read: Any, data: Any) -> None:
    with pytest.raises(ForgeDown):
        read(data)


def test_what_may_be_missing_is_missed_by_nobody() -> None:
    pull = reading.read_pull({"number": 3, "head": {"sha": "a"}, "base": {"ref": "main"}})
    assert pull.is_fork and pull.head_repo == "" and not pull.is_open and pull.updated_at == 0
    comment = reading.read_comment({"id": 1, "user": None, "issue_url": 5})
    assert (comment.author, comment.body, comment.number) == ("", "", 0)
    assert reading.read_delivery({"id": 1, "event": "ping", "action": None}).event == "ping"
    assert not reading.read_delivery({"id": 1, "status_code": None}).arrived
    repo = reading.read_repo({"id": 1, "full_name": "a/b"})
    assert repo.is_private and repo.default_branch == "main"
    assert reading.read_installation({"id": 1, "account": {"slug": "big"}}).account == "big"
    assert reading.read_app({}, 0).permissions == {}
    assert reading.read_states([{"context": "a", "state": "new-word"}, {"context": "b", "state": "error"}, 3]) == {
        "b": "error"
    }


@pytest.mark.parametrize("word", ["owner", "", "ADMIN", None, 7, "custom"])
def test_a_permission_we_do_not_know_is_none(word: Any) -> None:
    assert reading.read_permission({"permission": word}) is Permission.NONE


@pytest.mark.parametrize(
    ("data", "ours"),
    [
        ({"performed_via_github_app": {"id": 7}}, True),
        ({"performed_via_github_app": {"id": 8}, "user": {"login": "dstack[bot]"}}, False),
        ({"user": {"login": "dstack[bot]"}}, True),
        ({"user": {"login": "dstack"}}, False),
        ({"app": {"id": 7}}, True),
        ({}, False),
    ],
)
def test_whose_comment_it_is(data: Any, ours: bool) -> None:
    assert reading.is_ours(data, 7, "dstack") is ours


@pytest.mark.parametrize(
    ("data", "is_bot"),
    [
        ({"user": {"type": "Bot"}, "performed_via_github_app": {"id": 8}}, True),
        ({"user": {"type": "User"}, "performed_via_github_app": {"id": 8}}, False),
        ({"user": {"type": "User"}}, False),
    ],
)
def test_a_person_who_writes_through_an_app_is_a_person_as_in_the_event(data: Any, is_bot: bool) -> None:
    assert reading.read_comment({"id": 1, **data}).is_bot is is_bot


def test_nobody_is_ours_while_we_do_not_know_our_name() -> None:
    assert not reading.is_ours({"user": {"login": "[bot]"}}, 7, "")


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("acme", "vision", "pulls", 3), "/repos/acme/vision/pulls/3"),
        (("..", "."), "/repos/%2E%2E/%2E"),
        (("a/b", "c?d=e#f"), "/repos/a%2Fb/c%3Fd%3De%23f"),
        (("acme", "v.1", "collaborators", "dependabot[bot]"), "/repos/acme/v.1/collaborators/dependabot%5Bbot%5D"),
    ],
)
def test_no_word_names_another_operation(parts: tuple[str, ...], path: str) -> None:
    assert named_repo(*parts) == path


@pytest.mark.parametrize(
    ("link", "params"),
    [
        ("", None),
        ('<https://api.github.com/x?page=2&per_page=100>; rel="next", <https://e/x?page=9>; rel="last"',
         {"page": "2", "per_page": "100"}),
        ('<https://e/x?page=1>; rel="prev"', None),
        ('<https://evil.example/steal?cursor=v1_7>; rel="next"', {"cursor": "v1_7"}),
        ("garbage; rel=next", None),
    ],
)  # fmt: skip
def test_of_a_link_only_the_parameters_count(link: str, params: dict[str, str] | None) -> None:
    assert Answer(200, [], {"link": link} if link else {}).next_page == params


def test_kept_answers_are_small_and_those_asked_for_lately() -> None:
    kept = KeptAnswers(most_bytes=10_000)
    one = Answer(200, [], {"etag": '"1"'})
    kept.keep("pulls", "open", one, list)
    kept.keep("no tag", "", Answer(200, 0, {}), int)
    assert kept.find("pulls", "open") == ('"1"', one) and kept.find("no tag", "") is None
    for hour in range(100):
        kept.keep("comments", f"since {hour}", one, list)
    assert kept.find("comments", "since 98") is None and kept.find("comments", "since 99") == ('"1"', one)
    assert kept.find("pulls", "open"), "one list more pushes out no other"
    kept.keep("large", "", one, lambda _: "x" * 7500)
    assert kept.find("comments", "since 99") is None and kept.find("pulls", "open"), "who was asked for last stays"
    kept.keep("larger than all", "", one, lambda _: "x" * 20_000)
    assert kept.find("larger than all", "") is None


# Against a server of its own that answers oddly


class Odd(ThreadingHTTPServer):
    """Answers every call with what `answers` has for its path, and remembers it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), OddHandler)
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.reached, self.holds = threading.Event(), threading.Event()  # of calls to repositories
        self.holds.set()


class OddHandler(BaseHTTPRequestHandler):
    server: Odd
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.path.startswith("/repos/"):
            self.server.reached.set()
            self.server.holds.wait(10)
        status, headers, body = self.server.answers.get(self.path.partition("?")[0], (404, {}, b"{}"))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = answer

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[Odd]:
    with Odd() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        server.answers["/app/installations/5/access_tokens"] = (
            201, {}, b'{"token": "ghs_x", "expires_at": "2100-01-01T00:00:00.5+02:00"}',
        )  # fmt: skip
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def connected(odd: Odd, key: str = "", **more: Any) -> Iterator[GitHub]:
    github = GitHub(odd.url, odd.url, timeout_s=2.0, **more)
    github.connect(AppCredentials(7, key or pem(), ("s",), "dstack"))
    yield github
    github.close()


def pem() -> str:
    from cryptography.hazmat.primitives import serialization
    from fake_github.acts_apps import _key  # keys are made once for all tests

    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    return _key(0).private_bytes(*plain).decode()


PLACE = Place(5, "acme", "vision")
PULL = b'{"number": 1, "head": {"sha": "a"}, "base": {"ref": "main"}}'


def test_nobody_is_led_to_another_host(odd: Odd) -> None:
    with Odd() as other, connected(odd) as github:
        for location in (f"{other.url}/repos/acme/vision/pulls/1", "//evil.example/x", "http://127.0.0.1:1/x", ""):
            odd.answers["/repos/acme/vision/pulls/1"] = (301, {"Location": location}, b"")
            with pytest.raises(ForgeRefused):
                github.pull(PLACE, 1)
        assert other.asked == []


def test_a_moved_repository_is_followed_with_everything_said(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/issues/1/comments"] = (
        307, {"Location": f"{odd.url}/repositories/9/issues/1/comments"}, b"",
    )  # fmt: skip
    odd.answers["/repositories/9/issues/1/comments"] = (201, {}, b'{"id": 3}')
    odd.answers["/repos/acme/vision/installation"] = (
        301, {"Location": f"{odd.url}/repositories/9/installation"}, b"",
    )  # fmt: skip
    odd.answers["/repositories/9/installation"] = (200, {}, b'{"id": 5}')
    odd.answers["/repos/acme/vision"] = (200, {}, b'{"id": 9, "full_name": "acme/sight"}')
    with connected(odd) as github:
        assert github.create_comment(PLACE, 1, "hello") == "3"
        assert github.find_repo("acme", "vision")[0].full_name == "acme/sight"
    method, _, headers = next(call for call in odd.asked if call[1].startswith("/repositories/9/issues"))
    assert method == "POST" and headers["authorization"] == "token ghs_x"


def test_redirects_that_go_round_end(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/pulls/1"] = (302, {"Location": f"{odd.url}/repos/acme/vision/pulls/1"}, b"")
    with connected(odd) as github, pytest.raises(ForgeRefused):
        github.pull(PLACE, 1)
    assert len(odd.asked) < 8


def test_the_version_of_the_api_is_asked_for(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/pulls/1"] = (200, {}, PULL)
    with connected(odd) as github:
        github.pull(PLACE, 1)
    assert {headers.get("x-github-api-version") for _, _, headers in odd.asked} == {"2022-11-28"}
    odd.asked.clear()
    with connected(odd, api_version="") as github:
        github.pull(PLACE, 1)
    assert {headers.get("x-github-api-version") for _, _, headers in odd.asked} == {None}


def test_an_address_that_is_no_api_is_said_so(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/pulls/1"] = (200, {}, b"<html>sign in</html>")
    with connected(odd) as github:
        with pytest.raises(ForgeDown) as down:
            github.pull(PLACE, 1)
        assert "DSTACK_GITHUB_API_URL" in down.value.hint
        odd.answers["/repos/acme/vision/pulls/1"] = (404, {}, b"<html>nothing</html>")
        with pytest.raises(ForgeRefused):
            github.pull(PLACE, 1)


def test_what_has_not_changed_is_not_sent_again(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/pulls"] = (200, {"ETag": '"one"'}, b"[" + PULL + b"]")
    with connected(odd) as github:
        first = github.open_pulls(PLACE)
        odd.answers["/repos/acme/vision/pulls"] = (304, {"ETag": '"one"'}, b"")
        assert github.open_pulls(PLACE) == first and len(first) == 1
        odd.answers["/repos/acme/vision/pulls"] = (200, {"ETag": '"two"'}, b"[]")
        assert github.open_pulls(PLACE) == []
    tags = [headers.get("if-none-match") for _, path, headers in odd.asked if path.startswith("/repos")]
    assert tags == [None, '"one"', '"one"']


def test_of_large_lists_only_what_is_read_is_kept(odd: Odd) -> None:
    """GitHub tells 20 kB of a pull request: hundreds are to fit, or polling them costs the hour's calls."""
    places = [Place(PLACE.installation, "acme", name) for name in ("one", "two", "three")]
    page = b",".join([PULL[:-1] + b', "body": "' + b"x" * 20_000 + b'"}'] * 100)
    for place in places:
        odd.answers[f"/repos/acme/{place.name}/pulls"] = (200, {"ETag": '"one"'}, b"[" + page + b"]")
    with connected(odd) as github:
        for _ in range(2):
            assert [len(github.open_pulls(place)) for place in places] == [100] * 3
    tags = [headers.get("if-none-match") for _, path, headers in odd.asked if path.startswith("/repos")]
    assert tags == [None] * 3 + ['"one"'] * 3


def test_a_list_that_does_not_end_is_cut(odd: Odd, caplog: pytest.LogCaptureFixture) -> None:
    link = f'<{odd.url}/repos/acme/vision/pulls?page=2>; rel="next"'
    odd.answers["/repos/acme/vision/pulls"] = (200, {"Link": link}, b"[" + PULL + b"]")
    with connected(odd) as github:
        assert len(github.open_pulls(PLACE)) == 100
    assert "not read" in caplog.text


def test_a_key_that_is_none_is_told_and_not_shown(odd: Odd) -> None:
    for key in ("not a key", "-----BEGIN RSA PRIVATE KEY-----\nsecret-stuff\n-----END RSA PRIVATE KEY-----\n"):
        with connected(odd, key) as github:
            with pytest.raises(NotConnected) as refused:
                github.app()
            assert "private key" in refused.value.message and "secret-stuff" not in str(refused.value)
    assert odd.asked == []


def test_nobody_listens() -> None:
    github = GitHub("http://127.0.0.1:1", "http://127.0.0.1:1", timeout_s=2.0)
    github.connect(AppCredentials(7, pem(), (), "dstack"))
    with pytest.raises(ForgeDown):
        github.app()
    github.close()


def test_what_was_closed_is_not_opened_again(odd: Odd) -> None:
    """A worker may still be at it when the server stops."""
    odd.answers["/repos/acme/vision/pulls/1"] = (200, {}, PULL)
    with connected(odd) as github:
        calls = github._connection.calls()
        github.pull(PLACE, 1)
        github.connect(None)
        with pytest.raises(ForgeDown):
            calls.at(5, "GET", "/repos/acme/vision/pulls/1")
    for ask in (lambda: github.convert_manifest("x"), lambda: github._connection.calls()):
        with pytest.raises(ForgeDown):
            ask()


def test_a_call_under_way_ends_in_the_old_name(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/pulls/1"] = (200, {}, PULL)
    odd.holds.clear()
    found: list[int] = []
    with connected(odd) as github:
        thread = threading.Thread(target=lambda: found.append(github.pull(PLACE, 1).number))
        thread.start()
        assert odd.reached.wait(10)
        github.connect(None)
        odd.holds.set()
        thread.join(10)
    assert found == [1]


def test_connections_are_shared_by_calls_and_threads(odd: Odd) -> None:
    ports = set()
    odd.answers["/repos/acme/vision/pulls/1"] = (200, {}, PULL)
    real = OddHandler.answer

    def answer(self: OddHandler) -> None:
        ports.add(self.client_address[1])
        real(self)

    OddHandler.do_GET = answer  # type: ignore[method-assign]
    try:
        with connected(odd) as github:
            for _ in range(5):
                thread = threading.Thread(target=github.pull, args=(PLACE, 1))
                thread.start()
                thread.join()
    finally:
        OddHandler.do_GET = real  # type: ignore[method-assign]
    assert len(ports) == 1


# What stays unloaded


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_a_server_without_github_does_not_load_the_client(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from dstack.server.bootstrap import start\n"
        "from dstack.server.settings import Settings\n"
        f"with start(Settings(data=Path({str(tmp_path)!r}))) as started:\n"
        "    assert not started.wiring.forge.is_connected\n"
        "import dstack.server.asgi, dstack.server.workers\n"
    )
    loaded = modules_after(code)
    assert "dstack" in loaded
    assert not loaded & {"githubkit", "githubkit_schemas", "httpx", "hishel", "jwt"}


def test_the_client_is_loaded_without_its_models(odd: Odd) -> None:
    odd.answers["/repos/acme/vision/pulls/1"] = (200, {}, PULL)
    code = (
        "from dstack.server.gateways.github import GitHub\n"
        "from dstack.server.gateways.forge_facts import AppCredentials, Place\n"
        f"github = GitHub({odd.url!r}, {odd.url!r})\n"
        f"github.connect(AppCredentials(7, {pem()!r}, (), 'dstack'))\n"
        "github.pull(Place(5, 'acme', 'vision'), 1)\n"
        "github.close()\n"
        "import sys\n"
        "assert not [name for name in sys.modules if name.startswith('githubkit_schemas') and '.models' in name]\n"
    )
    assert "githubkit" in modules_after(code)


def test_secrets_are_in_no_repr() -> None:
    shown = repr(AppCredentials(7, "the-key", ("the-secret",), "dstack"))
    assert "the-key" not in shown and "the-secret" not in shown
    assert {"private_key", "webhook_secrets"} <= {field.name for field in fields(AppCredentials)}


def test_github_is_never_mocked_at_the_client() -> None:
    """What a mock of the client answers is what we believe; these tests stand on real HTTP."""
    here = Path(__file__)
    files = [*here.parent.glob("*.py"), here.parents[2] / "contract" / "test_forge_contract.py"]
    mocks = ("respon" + "ses", "resp" + "x", "Mock" + "Transport", "unittest." + "mock", "monkey" + "patch")
    assert len(files) >= 3
    assert not [(path.name, word) for path in files for word in mocks if word in path.read_text()]
