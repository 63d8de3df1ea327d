"""kill -9 of a real server process, again and again, while a log streams and an artifact is saved: nothing is lost."""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import store_server

from dstack.server.gateways.logs_local import LocalLogs
from dstack.server.gateways.objects_local import LocalObjects
from dstack_runner.content.http import HttpContent
from dstack_runner.content.save import save
from dstack_runner.content.scan import scan
from dstack_runner.logs import LogSender
from dstack_runner.spool import Spool

KILLS = 3


class Server:
    """One folder and port, served by one process after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        command = [sys.executable, store_server.__file__, str(self._folder), str(self.port)]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except ConnectionRefusedError:
                assert self._process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.mark.timeout(120)
def test_kills_of_the_server_lose_and_repeat_nothing(tmp_path: Path) -> None:
    noise = random.Random(11)
    out = tmp_path / "checkout" / "out"
    out.mkdir(parents=True)
    for n in range(300):
        (out / f"{n}.bin").write_bytes(noise.randbytes(20_000))
    (out / "large").write_bytes(noise.randbytes(30_000_000))
    server = Server(tmp_path / "server")
    server.start()
    api = HttpContent(f"http://127.0.0.1:{server.port}", "a1", dict)
    spool = Spool(tmp_path / "spool")
    sender = LogSender(api, spool)
    sender.start()
    results: list[object] = []
    saving = threading.Thread(target=lambda: results.append(save(api, scan(tmp_path / "checkout", "out"))))
    saving.start()
    printed = hashlib.sha256()
    for _ in range(KILLS):
        for _ in range(40):
            data = noise.randbytes(50_000)
            printed.update(data)
            spool.append(data)
        time.sleep(noise.random() * 0.2)  # a moment nobody chose
        server.kill()
        left = LocalObjects(tmp_path / "server/objects")
        for blob in left.stored():
            content = b"".join(left.read(blob.digest))
            assert hashlib.sha256(content).hexdigest() == blob.digest
        left.close()
        server.start()
    assert sender.drain(60)
    saving.join(60)
    # The test's server makes an artifact visible by storing its manifest: the save's answer says it is there.
    assert len(results) == 1
    server.kill()
    api.close()
    logged = b"".join(LocalLogs(tmp_path / "server/logs").read("a1"))
    assert hashlib.sha256(logged).digest() == printed.digest()
    objects = LocalObjects(tmp_path / "server/objects")
    manifest = scan(tmp_path / "checkout", "out").manifest
    assert objects.missing([manifest.digest, *(entry.digest for entry in manifest.files)]) == []
    spool.remove()
