"""`dstack server link`: a link that signs this user in on the server's pages, once."""

from __future__ import annotations

import argparse

from dstack.cli import connection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    print(connection.connect(args).sign_in_link()["url"])
    return 0
