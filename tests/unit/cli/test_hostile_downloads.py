"""A list of files that means to write outside the folder it is brought into."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

from dstack.cli.download import download
from dstack.client import Client

EVIL = b"written elsewhere"


class Serving:
    """Answers every small file with the same bytes."""

    def small_file(self, artifact_id: str, path: str) -> bytes:
        return EVIL


def test_links_and_names_made_for_each_other_write_nothing_outside(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    digest = hashlib.sha256(EVIL).hexdigest()
    part = f".f.{digest[:16]}.part"  # where the bytes of `f` go before they are checked
    files: list[dict[str, Any]] = [
        {"path": "d/x", "size": 0, "digest": "", "target": ".."},
        {"path": part, "size": 0, "digest": "", "target": "d/x/../victim"},
        {"path": "f", "size": len(EVIL), "digest": digest, "target": None},
    ]
    download(cast(Client, Serving()), "1", files, folder)
    assert not outside.exists()
    assert (folder / "f").read_bytes() == EVIL and not (folder / "f").is_symlink()


def test_a_link_laid_by_an_earlier_download_is_not_written_through(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir()
    digest = hashlib.sha256(EVIL).hexdigest()
    (folder / f".f.{digest[:16]}.part").symlink_to(outside)
    download(cast(Client, Serving()), "1", [{"path": "f", "size": len(EVIL), "digest": digest}], folder)
    assert not outside.exists() and (folder / "f").read_bytes() == EVIL
