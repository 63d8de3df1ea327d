"""The least that can take a PUT: uvicorn and a few lines that write the body to a file and hash it on the way."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """A server in a process of its own that keeps bodies in `folder`; its port."""
    folder.mkdir()
    process = subprocess.Popen([sys.executable, __file__, folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def main(folder: Path) -> None:
    import socket

    import uvicorn

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        digest = hashlib.sha256()
        with (folder / scope["path"].strip("/")).open("wb", buffering=0) as file:
            while True:
                message = await receive()
                digest.update(message["body"])
                file.write(message["body"])
                if not message.get("more_body"):
                    break
        assert digest.hexdigest() == scope["path"].strip("/")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
