"""The floor for webhooks: Starlette and SQLite and nothing else. Reads a body, commits it (synchronous=FULL), answers.

`python bare_webhooks.py PORT DATABASE`
"""

from __future__ import annotations

import sqlite3
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def main(port: int, path: str) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE deliveries (id INTEGER PRIMARY KEY, guid TEXT UNIQUE, payload BLOB)")

    async def post(request: Request) -> Response:
        body = await request.body()
        row = (request.headers["x-github-delivery"], body)
        made = database.execute("INSERT INTO deliveries (guid, payload) VALUES (?, ?)", row)
        return JSONResponse({"delivery": made.lastrowid, "state": "received"}, 202)

    app = Starlette(routes=[Route("/webhooks/github", post, methods=["POST"])])
    uvicorn.run(
        app, port=port, log_config=None, access_log=False, server_header=False, proxy_headers=False, ws="none",
        loop="uvloop",
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
