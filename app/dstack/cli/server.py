"""`dstack server`: serves on this machine, with one runner beside it."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from dstack.cli.config_file import store_sign_in
from dstack.errors import DstackError

if TYPE_CHECKING:
    from dstack.server.serve import Address


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (DSTACK_HOST, default 127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (DSTACK_PORT, default 3000; 0 takes a free one)")
    parser.add_argument("--data", help="folder of everything the server keeps (DSTACK_DATA)")
    parser.add_argument("--url", help="address that people and runners use (DSTACK_URL)")
    parser.add_argument("--no-runner", action="store_true", help="start no runner beside the server")


def main(args: argparse.Namespace) -> int:
    try:
        from dstack.git.run import forget_inherited, require_git
        from dstack.server.serve import serve
        from dstack.server.settings import load_settings
    except ModuleNotFoundError as error:
        raise DstackError(
            f"the server's parts are not installed ({error.name} is missing)", "pip install 'dstack-ci[server,runner]'"
        ) from None
    forget_inherited()
    require_git()
    settings = load_settings(host=args.host, port=args.port, data=args.data, url=args.url)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every call would bury ours
    for chatty in ("alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    serve(settings, runner=not args.no_runner, ready=_announce)
    return 0


def _announce(address: Address) -> None:
    """Say where the server is; at the very first start also keep the admin's token for this user's CLI."""
    if address.first_token is not None:
        path = store_sign_in(address.url, address.first_token)
        print(f"The admin token is stored for `dstack` in {path}")
    print(f"dstack serves at {address.url}")
    print(f"Sign in with this link (good for one use, 24 hours): {address.sign_in}", flush=True)
