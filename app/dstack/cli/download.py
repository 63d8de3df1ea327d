"""Brings the files of artifacts into a folder: each checked by its digest, resumed where it was cut, never outside."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from dstack.cli import output
from dstack.cli.progress import Progress
from dstack.client import Client, Json, Stream
from dstack.client.refusal import plain
from dstack.errors import DstackError, Invalid, Unreachable

SMALL = 1024 * 1024  # such files come over one kept connection
CUTS_BORNE = 5
CHUNK = 1024 * 1024


def select_files(files: list[Json], path: str) -> list[Json]:
    """The files at or below a path; all for an empty one."""
    wanted = path.strip("/")
    return [f for f in files if not wanted or f["path"] == wanted or f["path"].startswith(wanted + "/")]


def download(client: Client, artifact_id: str, files: list[Json], folder: Path) -> int:
    """Bring files into a folder and answer how many bytes were fetched; what is there already with the same digest is
    left. Raises Invalid for a path that leaves the folder, DstackError for bytes that are not those promised."""
    fetched = 0
    with Progress("downloading", sum(file["size"] for file in files)) as progress:
        for file in files:
            destination = place(folder, file["path"])
            if file.get("target") is not None:
                _link(destination, file, folder)
            elif _has(destination, file):
                progress.add(file["size"])
            else:
                _fetch(client, artifact_id, file, destination, progress)
                fetched += file["size"]
    return fetched


def check_path(path: str) -> PurePosixPath:
    """A relative path without a step up. Raises Invalid: a server must not choose where on this machine it writes."""
    parts = path.split("/")
    if not path or path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise Invalid(f"the server names a file {plain(path)!r}, which would lie outside the folder")
    return PurePosixPath(path)


def place(folder: Path, path: str) -> Path:
    """Where a file goes, its parents made; a symbolic link on the way is not followed."""
    parent = folder
    for part in check_path(path).parts[:-1]:
        parent = parent / part
        if parent.is_symlink():
            raise Invalid(f"{parent} is a symbolic link; nothing is written through it")
        parent.mkdir(exist_ok=True)
    return folder / path


def is_inside(path: str, target: str) -> bool:
    """Whether a link at `path` that points to `target` stays inside, whatever links lie on its way: so steps up are
    taken at its start alone, from the folder it lies in."""
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    names = [part for part in parts if part != ".."]
    ups = len(parts) - len(names)
    return ups < len(PurePosixPath(path).parts) and parts[ups:] == names


def _link(destination: Path, file: Json, folder: Path) -> None:
    if not is_inside(file["path"], file["target"]):
        output.warn(f"the link {file['path']} leads out of {folder} and is left out")
        return
    if destination.is_symlink() and os.fspath(destination.readlink()) == file["target"]:
        return
    fresh = destination.with_name(f".{destination.name[:200]}.link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(file["target"])
    fresh.replace(destination)


def _has(destination: Path, file: Json) -> bool:
    if destination.is_symlink() or not destination.is_file() or destination.stat().st_size != file["size"]:
        return False
    with destination.open("rb") as data:
        return bool(hashlib.file_digest(data, "sha256").hexdigest() == file["digest"])


def _fetch(client: Client, artifact_id: str, file: Json, destination: Path, progress: Progress) -> None:
    part = destination.with_name(f".{destination.name[:180]}.{file['digest'][:16]}.part")
    if part.is_symlink():  # laid there by a file list that means to have its bytes written elsewhere
        part.unlink()
    if file["size"] <= SMALL:
        part.write_bytes(client.small_file(artifact_id, file["path"]))
        progress.add(file["size"])
    else:
        _fetch_large(client, artifact_id, file, part, progress)
    with part.open("rb") as data:
        digest = hashlib.file_digest(data, "sha256").hexdigest()
    if digest != file["digest"]:
        part.unlink()
        raise DstackError(f"{plain(file['path'])} came with other bytes than it was saved with", "Download it again.")
    part.chmod(0o755 if file.get("mode", 0o644) & 0o100 else 0o644)
    part.replace(destination)


def _fetch_large(client: Client, artifact_id: str, file: Json, part: Path, progress: Progress) -> None:
    """Append what is missing; after a cut, from there on."""
    cuts = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > file["size"]:
            part.unlink()
            have = 0
        if have == file["size"]:
            return
        try:
            with client.artifact_file(artifact_id, file["path"], have) as stream:
                _pour(stream, part, progress)
        except Unreachable:
            cuts += 1
            if cuts > CUTS_BORNE:
                raise


def _pour(stream: Stream, part: Path, progress: Progress) -> None:
    with part.open("ab" if stream.status == 206 else "wb") as out:
        for data in stream:
            out.write(data)
            progress.add(len(data))
