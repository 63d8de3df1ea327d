"""`dstack artifacts`: lists what a run has saved, or brings it here."""

from __future__ import annotations

import argparse
from pathlib import Path

from dstack.cli import connection, download, output, quantities, terminal
from dstack.client import Client, Json
from dstack.errors import NotFound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the run")
    parser.add_argument("path", nargs="?", default="", help="only what lies at or below this path")
    parser.add_argument("--download", type=Path, metavar="DIR", help="bring the files into this folder")
    parser.add_argument("--files", action="store_true", help="list the single files")
    output.add_json(parser)
    connection.add_arguments(parser)


def main(args: argparse.Namespace) -> int:
    client = connection.connect(args)
    artifacts = client.artifacts(args.name)
    if args.download is not None:
        return _download(client, args, artifacts)
    if args.files or args.path:
        return _list_files(client, args, artifacts)
    rows = [[a["path"], str(a["files"]), quantities.size(a["bytes"]), a["digest"][:12]] for a in artifacts]
    output.print_listing(args, artifacts, ["ARTIFACT", "FILES", "SIZE", "DIGEST"], rows)
    return 0


def _list_files(client: Client, args: argparse.Namespace, artifacts: list[Json]) -> int:
    files = [file for _, found in _files(client, artifacts, args.path) for file in found]
    rows = [[file["path"], quantities.size(file["size"]), (file["digest"] or "")[:12]] for file in files]
    output.print_listing(args, files, ["FILE", "SIZE", "DIGEST"], rows)
    return 0


def _download(client: Client, args: argparse.Namespace, artifacts: list[Json]) -> int:
    chosen = _files(client, artifacts, args.path)
    args.download.mkdir(parents=True, exist_ok=True)
    fetched = sum(download.download(client, artifact["id"], files, args.download) for artifact, files in chosen)
    count = sum(len(files) for _, files in chosen)
    terminal.tell(f"{count} files are in {args.download}; {quantities.size(fetched)} were fetched")
    if args.json:
        output.print_json([file for _, files in chosen for file in files])
    return 0


def _files(client: Client, artifacts: list[Json], path: str) -> list[tuple[Json, list[Json]]]:
    """The artifacts with their files at or below the path. Raises NotFound when there are none."""
    found = [(a, download.select_files(client.artifact_files(a["id"]), path)) for a in artifacts]
    found = [(artifact, files) for artifact, files in found if files]
    if path and not found:
        names = ", ".join(artifact["path"] for artifact in artifacts) or "nothing"
        raise NotFound(f"no artifact of this run has {path!r}", f"It saved: {names}.")
    return found
