"""`notify:` tells a receiver how a run ended: a real one over HTTP, and all that may go wrong at the edge."""

from __future__ import annotations

import datetime
import json
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from outbox_scene import Scene, play
from server_clock import FakeClock

from dstack.errors import Invalid, Unavailable
from dstack.server.gateways.webhook_out import post_json
from dstack.server.services.manage_secrets import set_secret
from dstack.server.services.send_notifications import send_notifications
from dstack.server.store.outbox import NOTIFY, VERDICT, mark_by_target
from dstack.server.store.reports import parked
from dstack.server.store.repos import repo_by_id

PUBLIC = "https://hooks.example.org/services/T0/very-secret"
SLACK = {"secret": "SLACK_URL", "url": "", "on": ["failed", "recovered"], "format": "slack"}


class Receiver:
    """A receiver on loopback; `answers` are the next statuses, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), json.loads(body)))
                status = outer.answers.pop(0) if outer.answers else 200
                self.send_response(status)
                self.send_header("Location", f"http://127.0.0.1:{outer.port}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/services/very-secret?key=1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def speak_tls(self, folder: Path, name: str) -> Path:
        """From now on, with a certificate of its own for `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(key, hashes.SHA256())
        )
        path, key_path = folder / "certificate.pem", folder / "key.pem"
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, key_path)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        return path

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def private(tmp_path: Path, clock: FakeClock) -> Iterator[Scene]:
    with play(tmp_path, clock, notify_private=True) as scene:
        yield scene


def keep(scene: Scene, name: str, value: str) -> None:
    def unit(session: Any) -> None:
        repo = repo_by_id(session, 1)
        set_secret(session, repo, name, value, vault=scene.wiring.vault, by="ann", now=scene.clock.now())

    scene.wiring.db.write(unit)


def end(scene: Scene, *, fails: bool, notify: dict[str, Any] | None = None, **more: Any) -> str:
    """A run that ends, and is judged."""
    group = {name: more.pop(name) for name in ("trusted",) if name in more}
    run = scene.runs({"train": {"notify": notify or SLACK, **more}}, **group)["train"]
    scene.begin(run)
    scene.fail(run) if fails else scene.end(run)
    judge(scene, run)
    return run


def judge(scene: Scene, run: str) -> None:
    def unit(session: Any) -> None:
        mark = mark_by_target(session, VERDICT, f"1:{scene.row(run).id}")
        if mark is not None:
            session.delete(mark)

    scene.wiring.db.write(unit)


def problems(scene: Scene) -> list[str]:
    return [row.problem for row in scene.wiring.db.read(parked) if row.kind == NOTIFY]


def test_a_real_receiver_is_told_of_failure_and_recovery_alone(private: Scene, receiver: Receiver) -> None:
    keep(private, "SLACK_URL", f"{receiver.url}\n")
    end(private, fails=False)
    failed = end(private, fails=True)
    end(private, fails=False)
    end(private, fails=False)
    for _ in range(2):
        send_notifications(private.wiring)
    texts = sorted(body["text"] for _, _, body in receiver.got)
    assert texts == ["❌ train failed on acme/vision · main", "💚 train recovered on acme/vision · main"]
    path, headers, _ = receiver.got[0]
    assert path == "/services/very-secret?key=1" and headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert any(failed in body["blocks"][0]["text"]["text"] for _, _, body in receiver.got)
    assert problems(private) == []


def test_as_json_it_is_the_run_as_the_api_shows_it(private: Scene, receiver: Receiver) -> None:
    keep(private, "HOOK", receiver.url)
    run = end(private, fails=False, notify={"secret": "HOOK", "url": "", "on": ["succeeded"], "format": "json"})
    send_notifications(private.wiring)
    _, _, body = receiver.got[0]
    assert body["event"] == "succeeded" and body["url"] == f"http://dstack.example/runs/{run}"
    assert body["run"]["name"] == run and body["run"]["metrics"] == {"accuracy": 0.934} and "verdict" in body["run"]


def test_an_address_that_is_written_out_works_too(private: Scene, receiver: Receiver) -> None:
    end(private, fails=True, notify={"secret": "", "url": receiver.url, "on": ["failed"], "format": "slack"})
    send_notifications(private.wiring)
    assert len(receiver.got) == 1


def test_it_waits_a_moment_for_the_verdict(private: Scene, receiver: Receiver) -> None:
    keep(private, "SLACK_URL", receiver.url)
    run = private.run(notify=SLACK)
    private.begin(run)
    private.fail(run)
    send_notifications(private.wiring)
    assert receiver.got == []
    judge(private, run)
    private.clock.pass_time(1)
    send_notifications(private.wiring)
    assert len(receiver.got) == 1


def test_three_tries_then_it_is_said_why(private: Scene, receiver: Receiver) -> None:
    keep(private, "SLACK_URL", receiver.url)
    receiver.answers = [500, 429, 503, 503]
    end(private, fails=True)
    for expected in (1, 2, 3, 3):
        send_notifications(private.wiring)
        send_notifications(private.wiring)
        assert len(receiver.got) == expected
        private.clock.pass_time(60)
    assert problems(private) == ["the receiver answered 503"]


def test_it_works_the_second_time_and_nothing_is_said_twice(private: Scene, receiver: Receiver) -> None:
    keep(private, "SLACK_URL", receiver.url)
    receiver.answers = [502]
    end(private, fails=True)
    for _ in range(4):
        send_notifications(private.wiring)
        private.clock.pass_time(60)
    assert len(receiver.got) == 2 and problems(private) == []


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 410])
def test_a_refusal_is_final_and_no_redirect_is_followed(private: Scene, receiver: Receiver, status: int) -> None:
    keep(private, "SLACK_URL", receiver.url)
    receiver.answers = [status]
    end(private, fails=True)
    for _ in range(3):
        send_notifications(private.wiring)
        private.clock.pass_time(60)
    assert [path for path, _, _ in receiver.got] == ["/services/very-secret?key=1"]
    assert problems(private)[0].startswith(f"the receiver refused it with {status}")


def test_runs_of_forks_tell_nobody(private: Scene, receiver: Receiver) -> None:
    keep(private, "SLACK_URL", receiver.url)
    end(private, fails=True, trusted=False)
    send_notifications(private.wiring)
    assert receiver.got == [] and problems(private) == []


def test_a_missing_secret_is_said_by_name(scene: Scene) -> None:
    end(scene, fails=True)
    send_notifications(scene.wiring)
    assert problems(scene) == ["there is no secret SLACK_URL to notify. Set it: `dstack secrets set SLACK_URL`."]


def test_the_receiver_hears_of_a_local_address_only_where_that_is_allowed(scene: Scene, receiver: Receiver) -> None:
    keep(scene, "SLACK_URL", receiver.url)
    end(scene, fails=True)
    send_notifications(scene.wiring)
    assert receiver.got == []
    assert problems(scene)[0].startswith("the address to notify does not begin with https://")


# The edge


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/x", "ftp://hooks.example.org/x", "https://", "https:///x", "https://user:pw@h.example/",
        "https://127.0.0.1/x", "https://localhost/x", "https://10.0.0.1/", "https://192.168.1.1/", "https://[::1]/",
        "https://169.254.169.254/latest", "https://2130706433/", "https://0x7f.1/", "https://127.1/", "https://0/",
        "https://[::ffff:127.0.0.1]/", "https://[fd00::1]/", "https://a.internal/", "https://h.example:0/",
        "https://h.example:99999/", "https://h.example/\n", "https://h.example/ x",
        f"https://h.example/{'x' * 3000}", "",
    ],
)  # fmt: skip
def test_addresses_that_reach_inside_are_refused_and_never_told(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        post_json(url, {})
    assert len(url) < 10 or url not in f"{caught.value.message} {caught.value.hint}"


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Every name resolves to these; the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: object, **more: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port)) for answer in answers]

    monkeypatch.setattr("dstack.server.gateways.webhook_out.socket.getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1", "100.64.0.1"]
)
def test_names_that_resolve_inside_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, "93.184.216.34", address)
    with pytest.raises(Invalid, match="resolves to one of a private network"):
        post_json(PUBLIC, {})


def test_a_name_is_resolved_once_and_that_address_is_dialled(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    dialled = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **more: Any) -> Any:
        dialled.append(host)
        return real("127.0.0.1" if host == "hooks.example.org" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    post_json(f"http://hooks.example.org:{receiver.port}/x", {"a": 1}, private=True)
    assert dialled.count("hooks.example.org") == 1 and set(dialled) <= {"hooks.example.org", "127.0.0.1"}
    assert receiver.got[0][1]["Host"] == f"hooks.example.org:{receiver.port}"


@pytest.mark.parametrize("name", ["hooks.example.org", "other.example.org"])
def test_the_certificate_must_be_the_names_though_an_address_is_dialled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, receiver: Receiver, name: str
) -> None:
    certificate = receiver.speak_tls(tmp_path, "hooks.example.org")
    monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(certificate))
    resolving(monkeypatch, "127.0.0.1")
    url = f"https://{name}:{receiver.port}/x"
    if name == "hooks.example.org":
        post_json(url, {}, private=True)
        assert len(receiver.got) == 1
    else:
        with pytest.raises(Unavailable, match="SSLError"):
            post_json(url, {}, private=True)
        assert receiver.got == []


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    post_json(receiver.url, {}, private=True)
    assert len(receiver.got) == 1


@responses.activate
@pytest.mark.parametrize(
    "trouble",
    [
        requests.exceptions.ConnectTimeout(PUBLIC), requests.exceptions.ReadTimeout(PUBLIC),
        requests.exceptions.SSLError(PUBLIC), requests.exceptions.ConnectionError(PUBLIC),
        requests.exceptions.ChunkedEncodingError(PUBLIC),
    ],
)  # fmt: skip
def test_what_goes_wrong_on_the_way_can_be_tried_again_and_tells_no_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    resolving(monkeypatch, "93.184.216.34")
    responses.post(PUBLIC, body=trouble)
    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable) as caught:
        post_json(PUBLIC, {})
    assert "very-secret" not in f"{caught.value} {caught.value.__cause__} {caplog.text}"
    assert caught.value.__suppress_context__


@responses.activate
def test_what_is_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "93.184.216.34")
    responses.post(PUBLIC, status=204, match=[responses.matchers.json_params_matcher({"text": "é"})])
    post_json(PUBLIC, {"text": "é"})
    request = responses.calls[0].request
    assert request.headers["Host"] == "hooks.example.org" and request.headers["Content-Type"] == "application/json"


def test_a_name_that_does_not_resolve_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("dstack.server.gateways.webhook_out.socket.getaddrinfo", getaddrinfo)
    with pytest.raises(Unavailable, match="cannot be resolved"):
        post_json(PUBLIC, {})


def test_a_receiver_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="did not answer"):
        post_json(f"http://127.0.0.1:{silent.getsockname()[1]}/", {}, private=True, timeout_s=0.2)


def test_a_receiver_that_answers_a_letter_at_a_time_is_given_up() -> None:
    given_up = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not given_up.wait(0.05):
                connection.sendall(b"X-A: b\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        with pytest.raises(Unavailable, match="did not answer in"):
            post_json(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, private=True, timeout_s=0.5)
        given_up.set()
        thread.join()
