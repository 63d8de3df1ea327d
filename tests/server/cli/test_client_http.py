"""The client against a real server in difficulties: retries, redirects, cuts, TLS, and where the token goes."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from api_server import TOKEN, ApiServer, Host, page, refusal

from dstack.client import Client, Transport
from dstack.errors import Invalid, NotFound, NotSignedIn, Unavailable, Unreachable


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def client(api: ApiServer, slept: list[float]) -> Client:
    return Client(Transport(api.url, TOKEN, sleep=slept.append))


def test_a_busy_server_is_asked_again(api: ApiServer, client: Client, slept: list[float]) -> None:
    api.trouble.answers = [
        refusal(503, "unavailable", "busy"),
        refusal(429, "too_many", "slow", **{"Retry-After": "3"}),
    ]
    assert client.server()["user"] == "ada"
    assert len(slept) == 2 and slept[1] == 3.0


def test_it_gives_up_with_the_servers_words(api: ApiServer, client: Client, slept: list[float]) -> None:
    api.trouble.answers = [refusal(503, "unavailable", "the disk is full", "free some")] * 9
    with pytest.raises(Unavailable, match="the disk is full"):
        client.server()
    assert len(slept) == 4


def test_a_call_without_a_key_is_sent_once(api: ApiServer, client: Client, slept: list[float]) -> None:
    api.add_run("one")
    api.trouble.answers = [refusal(503, "unavailable", "busy")]
    with pytest.raises(Unavailable):
        client.restart("one")
    assert slept == [] and len(api.calls("POST", "restart")) == 1


def test_a_run_with_a_key_is_started_once_however_often_it_is_sent(api: ApiServer, client: Client) -> None:
    request = {"repo": "local/demo", "sha": "a" * 40, "workflow": "train", "idempotency_key": "k"}
    api.trouble.answers = [page(504), None]
    assert client.start(request) == client.start(request)
    assert len(api.calls("POST", "/runs")) == 3 and len(api.runs) == 1


def test_a_kept_connection_that_died_is_opened_again(api: ApiServer, client: Client) -> None:
    client.server()
    kept = client.transport._kept
    assert kept is not None and kept.sock is not None
    kept.sock.shutdown(socket.SHUT_RDWR)
    assert client.server()["user"] == "ada"


def test_a_redirect_elsewhere_is_not_followed(api: ApiServer, client: Client, home: Path) -> None:
    second = Host()
    other = ApiServer(home / "other", second)
    try:
        for location in (f"{other.url}/api/v1/server", f"//127.0.0.1:{other.port}/x"):
            api.trouble.answers = [page(302, Location=location)]
            with pytest.raises(Unreachable, match="the token was not sent there"):
                client.server()
        assert other.seen == []
    finally:
        second.stop()


def test_a_redirect_on_the_same_server_is_followed_for_reading_alone(api: ApiServer, client: Client) -> None:
    api.trouble.answers = [page(307, Location="/api/v1/server?moved=1")]
    assert client.server()["user"] == "ada"
    api.trouble.answers = [page(307, Location="/api/v1/users")]
    with pytest.raises(Unreachable, match="redirects this POST"):
        client.add_user("x", "member")
    api.trouble.answers = [page(302, Location="/api/v1/server")] * 9
    with pytest.raises(Unreachable, match="again and again"):
        client.server()


def test_an_answer_that_is_no_api_is_said(api: ApiServer, client: Client) -> None:
    for answer in (page(200, "<html>hello"), page(200, "[1]"), page(200, '"x"')):
        api.trouble.answers = [answer]
        with pytest.raises(Unreachable, match="not dstack's API"):
            client.server()


def test_errors_of_the_server_are_errors_of_ours(api: ApiServer, client: Client) -> None:
    with pytest.raises(NotFound, match="there is no nobody"):
        client.run("nobody")
    with pytest.raises(NotSignedIn, match="unknown or expired"):
        Client(Transport(api.url, "expired")).server()


@pytest.mark.parametrize("name", ["..", "a/../../users", "a?b", "a#b", "a%2fb", "ä b"])
def test_names_stay_one_segment(api: ApiServer, client: Client, name: str) -> None:
    with pytest.raises((NotFound, Invalid)):
        client.run(name)
    assert not [call for call in api.seen if not call[1].startswith("/api/v1/runs/")]


def test_a_token_with_line_ends_is_refused() -> None:
    with pytest.raises(NotSignedIn, match="characters no token has"):
        Transport("http://127.0.0.1:1", "good\r\nX-Evil: 1")


def test_all_pages_are_fetched_up_to_the_limit(api: ApiServer, client: Client) -> None:
    for number in range(7):
        api.add_run(f"run-{number}", workflow="a" if number % 2 else "b")
    assert [run["name"] for run in client.all_runs(limit=5)] == [f"run-{n}" for n in (6, 5, 4, 3, 2)]
    assert [run["name"] for run in client.all_runs(limit=50, workflow="a")] == ["run-5", "run-3", "run-1"]


def test_nobody_there_is_said_soon(slept: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="connection refused"):
        Client(Transport(f"http://127.0.0.1:{port}", "t", sleep=slept.append)).server()
    assert sum(slept) < 1.0


def test_a_server_that_only_listens_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", "t", sleep=lambda _: None)
        with pytest.raises(Unreachable, match="no answer in time"):
            transport.call("POST", "/x", body=b"{}", timeout_s=0.2)


def test_a_stranger_on_the_port_is_no_crash() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        met: list[bool] = []

        def talk() -> None:
            """To the end of the test, however often it is asked: a try that nobody takes waits half a minute."""
            while True:
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                met.append(True)
                with connection, suppress(OSError):  # the client has gone
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}", "t", sleep=lambda _: None)
        with pytest.raises(Unreachable):
            transport.call("GET", "/x")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert met


def test_a_certificate_nobody_knows_is_said_with_what_to_do(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard: list[bytes] = []

        def talk() -> None:
            connection, _peer = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    heard.append(secure.recv(100))
            except ssl.SSLError:
                connection.close()

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(Unreachable, match="is not trusted") as caught:
            Client(Transport(f"https://127.0.0.1:{listener.getsockname()[1]}", "t")).server()
        thread.join(5)
    assert "SSL_CERT_FILE" in caught.value.hint and heard == []


def test_https_to_a_plain_server_says_so(api: ApiServer) -> None:
    with pytest.raises(Unreachable, match="no secure connection") as caught:
        Client(Transport(api.url.replace("http:", "https:"), TOKEN)).server()
    assert "http://" in caught.value.hint
