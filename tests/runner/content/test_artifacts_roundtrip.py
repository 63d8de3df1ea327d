"""From one workspace through the store into another: whole or not at all, sent once, and safe from the job."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from starlette.requests import Request
from store_server import Serving, Store

from dstack.errors import DstackError, Invalid, LeaseLost, NotFound, Unavailable
from dstack.wire.manifest import FileEntry, Manifest
from dstack.wire.runner import SMALL_BLOB_BYTES
from dstack_runner.content.cache import BlobCache
from dstack_runner.content.fetch import fetch, fetch_manifest
from dstack_runner.content.http import HttpContent
from dstack_runner.content.mount import How, Mounted, Owner, mount
from dstack_runner.content.save import packs, save
from dstack_runner.content.scan import scan

JOB = Owner(31_337, 31_337)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user's job needs root")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A workspace with small files, equal files, a large one, a program, an empty one and a link."""
    root = tmp_path / "checkout"
    (root / "out/deep/er").mkdir(parents=True)
    noise = random.Random(1)
    for n in range(60):
        (root / f"out/deep/{n}.bin").write_bytes(noise.randbytes(3000))
    (root / "out/large.bin").write_bytes(noise.randbytes(3 * SMALL_BLOB_BYTES + 1))
    (root / "out/empty").write_bytes(b"")
    (root / "out/deep/er/twin").write_bytes((root / "out/deep/0.bin").read_bytes())
    (root / "out/tool.sh").write_text("#!/bin/sh\necho hi\n")
    (root / "out/tool.sh").chmod(0o755)
    (root / "out/latest").symlink_to("large.bin")
    return root


def tree(root: Path) -> dict[str, object]:
    """Paths with link targets, or contents and whether they can be run."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else (hashlib.sha256(path.read_bytes()).hexdigest(), bool(path.stat().st_mode & 0o100))
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def content_received(store: Store) -> int:
    return store.received.get("put_blob", 0) + store.received.get("put_pack", 0)


def brought(api: HttpContent, digest: str, cache: BlobCache, dest: Path, **options: object) -> Mounted:
    manifest = fetch_manifest(api, digest)
    dest.mkdir(exist_ok=True)
    with cache.hold(manifest.files):
        fetch(api, manifest, cache)
        return mount(manifest, cache, dest, **options)  # type: ignore[arg-type]


def test_what_is_saved_is_what_is_mounted(api: HttpContent, store: Store, checkout: Path, tmp_path: Path) -> None:
    sent: list[int] = []
    found = scan(checkout, "out")
    saved = save(api, found, on_sent=sent.append)
    assert saved.artifact.digest == found.manifest.digest
    assert saved.artifact.files == 60 + 5
    assert saved.artifact.bytes == found.manifest.size
    assert sum(sent) == saved.sent == found.manifest.size - 3000, "equal files are sent once"
    dest = tmp_path / "next"
    brought(api, saved.artifact.digest, BlobCache(tmp_path / "cache"), dest)
    assert tree(dest) == tree(checkout)


def test_the_second_identical_save_sends_no_content(api: HttpContent, store: Store, checkout: Path) -> None:
    save(api, scan(checkout, "out"))
    store.received.clear()
    assert save(api, scan(checkout, "out")).sent == 0
    assert content_received(store) == 0


def test_only_what_changed_is_sent(api: HttpContent, store: Store, checkout: Path) -> None:
    save(api, scan(checkout, "out"))
    (checkout / "out/deep/5.bin").write_bytes(b"new")
    assert save(api, scan(checkout, "out")).sent == 3


def test_an_interrupted_save_is_invisible_and_resumes(api: HttpContent, store: Store, checkout: Path) -> None:
    """The runner dies between packs and the save: nothing is visible, and the next try sends only the rest."""

    def refuse(request: Request) -> None:
        if request.scope["route"].name in ("put_pack", "save_artifact"):
            raise Invalid("cut here")

    store.before = refuse
    with pytest.raises(Invalid):
        save(api, scan(checkout, "out"))
    assert store.artifacts == {}
    store.before = lambda request: None
    store.received.clear()
    assert save(api, scan(checkout, "out")).sent < scan(checkout, "out").manifest.size - 3 * SMALL_BLOB_BYTES
    assert "put_blob" not in store.received
    assert list(store.artifacts) == ["out"]


def test_a_killed_runner_leaves_nothing_half_visible(store: Store, serving: Serving, checkout: Path) -> None:
    """kill -9 at many moments of an upload; afterwards every blob the store shows is whole (I6)."""
    script = (
        "import sys, pathlib\n"
        "from dstack_runner.content.http import HttpContent\n"
        "from dstack_runner.content.save import save\n"
        "from dstack_runner.content.scan import scan\n"
        "api = HttpContent(sys.argv[1], 'a1', dict)\n"
        "print('go', flush=True)\n"
        "save(api, scan(pathlib.Path(sys.argv[2]), 'out'), on_sent=lambda n: print(n, flush=True))\n"
    )
    (checkout / "out/huge").write_bytes(random.Random(3).randbytes(20_000_000))
    for words in (1, 2, 3):
        child = subprocess.Popen([sys.executable, "-c", script, store.url, str(checkout)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(words):
            child.stdout.readline()
        child.kill()
        child.wait()
        child.stdout.close()
        for blob in store.objects.stored():
            content = b"".join(store.objects.read(blob.digest))
            assert hashlib.sha256(content).hexdigest() == blob.digest
    with HttpContentOf(store) as api:
        found = scan(checkout, "out")
        assert save(api, found).artifact.digest == found.manifest.digest


class HttpContentOf:
    def __init__(self, store: Store) -> None:
        self._api = HttpContent(store.url, "a1", dict)

    def __enter__(self) -> HttpContent:
        return self._api

    def __exit__(self, *error: object) -> None:
        self._api.close()


def test_a_server_that_restarts_is_waited_for(
    api: HttpContent, store: Store, serving: Serving, checkout: Path, tmp_path: Path
) -> None:
    waits: list[DstackError] = []
    serving.stop()
    back = threading.Timer(0.4, serving.start)
    back.start()
    saved = save(api, scan(checkout, "out"), on_wait=waits.append)
    back.join()
    assert waits
    store.fail(2)
    brought(api, saved.artifact.digest, BlobCache(tmp_path / "cache"), tmp_path / "next")
    assert tree(tmp_path / "next") == tree(checkout)


def test_giving_up_and_a_lost_lease_end_a_save(api: HttpContent, store: Store, checkout: Path) -> None:
    give_up = threading.Event()
    give_up.set()
    store.fail(1000)
    with pytest.raises(Unavailable):
        save(api, scan(checkout, "out"), give_up=give_up)
    store.lose_lease()
    with pytest.raises(LeaseLost):
        save(api, scan(checkout, "out"))


@pytest.mark.parametrize("name", ["out/deep/7.bin", "out/large.bin"])
@pytest.mark.parametrize("change", ["content", "shorter", "link", "gone"])
def test_a_file_changed_after_the_scan_is_refused(
    api: HttpContent, store: Store, checkout: Path, name: str, change: str
) -> None:
    found = scan(checkout, "out")
    path = checkout / name
    size = path.stat().st_size
    if change in ("link", "gone"):
        path.unlink()
    if change == "link":
        path.symlink_to("/etc/passwd")
    elif change == "content":
        path.write_bytes(b"x" * size)
    elif change == "shorter":
        path.write_bytes(b"x")
    with pytest.raises(Invalid):
        save(api, found)
    assert store.artifacts == {}


def test_a_blob_pruned_between_question_and_save_is_sent_again(api: HttpContent, store: Store, checkout: Path) -> None:
    save(api, scan(checkout, "out"))
    found = scan(checkout, "out")
    victim = next(entry.digest for entry in found.manifest.files if entry.path == "out/large.bin")
    once = [True]

    def prune(request: Request) -> None:
        if request.scope["route"].name == "save_artifact" and once:
            once.clear()
            store.objects.delete(victim)

    store.before = prune
    assert save(api, found).sent == 3 * SMALL_BLOB_BYTES + 1


def test_packs_stay_below_their_limit() -> None:
    entries = [FileEntry(f"{n}", n % 50) for n in range(100)]
    groups = list(packs(entries, limit=500))
    assert [entry for group in groups for entry in group] == entries
    assert all(sum(36 + entry.size for entry in group) + 72 <= 500 for group in groups)
    assert [len(group) for group in packs(entries, most=30)] == [30, 30, 30, 10]
    assert list(packs([])) == []


def test_fetching_what_is_not_there_is_said(api: HttpContent, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        fetch_manifest(api, "0" * 64)
    manifest = Manifest((FileEntry("a", SMALL_BLOB_BYTES + 1, "1" * 64), FileEntry("b", 1, "2" * 64)))
    cache = BlobCache(tmp_path / "cache")
    with pytest.raises(NotFound):
        fetch(api, manifest, cache)


def test_a_damaged_blob_never_enters_the_cache(api: HttpContent, store: Store, checkout: Path, tmp_path: Path) -> None:
    saved = save(api, scan(checkout, "out"))
    manifest = fetch_manifest(api, saved.artifact.digest)
    large = next(entry for entry in manifest.files if entry.path == "out/large.bin")
    stored = store.objects.path_of(large.digest)
    stored.chmod(0o600)
    with stored.open("r+b") as file:
        file.write(b"rot")
    cache = BlobCache(tmp_path / "cache")
    with pytest.raises(Invalid, match="other bytes"):
        fetch(api, manifest, cache)
    assert not cache.has(large.digest)


def test_fetching_again_asks_for_nothing(api: HttpContent, store: Store, checkout: Path, tmp_path: Path) -> None:
    saved = save(api, scan(checkout, "out"))
    manifest = fetch_manifest(api, saved.artifact.digest)
    cache = BlobCache(tmp_path / "cache")
    assert fetch(api, manifest, cache) == manifest.size - 3000
    assert fetch(api, manifest, BlobCache(tmp_path / "cache")) == 0


# --- mounting


@pytest.fixture
def stocked(api: HttpContent, checkout: Path, tmp_path: Path) -> tuple[Manifest, BlobCache]:
    manifest = fetch_manifest(api, save(api, scan(checkout, "out")).artifact.digest)
    cache = BlobCache(tmp_path / "cache")
    fetch(api, manifest, cache)
    return manifest, cache


def test_inputs_are_read_only_and_copies_are_not(stocked: tuple[Manifest, BlobCache], tmp_path: Path) -> None:
    manifest, cache = stocked
    for name, copy, modes in (("ro", False, (0o444, 0o555)), ("rw", True, (0o644, 0o755))):
        dest = tmp_path / name
        dest.mkdir()
        mounted = mount(manifest, cache, dest, copy=copy)
        assert (mounted.files, mounted.bytes) == (65, manifest.size)
        assert stat.S_IMODE((dest / "out/large.bin").stat().st_mode) == modes[0]
        assert stat.S_IMODE((dest / "out/tool.sh").stat().st_mode) == modes[1]
        assert subprocess.run([dest / "out/tool.sh"], capture_output=True, check=True).stdout == b"hi\n"


def test_mounting_merges_into_folders_and_names_a_clash(stocked: tuple[Manifest, BlobCache], tmp_path: Path) -> None:
    manifest, cache = stocked
    dest = tmp_path / "next"
    (dest / "out/deep").mkdir(parents=True)
    (dest / "out/own.txt").write_text("own")
    mount(manifest, cache, dest)
    assert (dest / "out/own.txt").read_text() == "own"
    other = tmp_path / "other"
    (other / "out").mkdir(parents=True)
    (other / "out/tool.sh").write_text("tracked")
    with pytest.raises(Invalid, match=r"out/tool\.sh"):
        mount(manifest, cache, other)
    assert (other / "out/tool.sh").read_text() == "tracked"


@pytest.mark.parametrize("place", ["out", "out/deep"])
def test_a_link_on_the_way_is_never_followed(stocked: tuple[Manifest, BlobCache], tmp_path: Path, place: str) -> None:
    manifest, cache = stocked
    outside = tmp_path / "outside"
    outside.mkdir()
    dest = tmp_path / "next"
    (dest / place).parent.mkdir(parents=True)
    (dest / place).symlink_to(outside)
    with pytest.raises(Invalid, match="link"):
        mount(manifest, cache, dest)
    assert list(outside.iterdir()) == []


def test_a_file_where_a_folder_must_be_is_named(stocked: tuple[Manifest, BlobCache], tmp_path: Path) -> None:
    manifest, cache = stocked
    dest = tmp_path / "next"
    dest.mkdir()
    (dest / "out").write_text("a file")
    with pytest.raises(Invalid, match="'out' is a file"):
        mount(manifest, cache, dest)


@needs_root
@pytest.mark.parametrize("copy", [False, True])
def test_a_job_cannot_alter_the_cache(stocked: tuple[Manifest, BlobCache], tmp_path: Path, copy: bool) -> None:
    """A job under its own user tries all it can on its inputs; every blob of the cache stays as it was."""
    manifest, cache = stocked
    dest = tmp_path / "work"
    dest.mkdir()
    os.chown(dest, JOB.uid, JOB.gid)
    for folder in (tmp_path, *tmp_path.parents):
        folder.chmod(folder.stat().st_mode | 0o011)
    mounted = mount(manifest, cache, dest, owner=JOB, copy=copy)
    assert mounted.how in ((How.REFLINK, How.HARDLINK) if not copy else (How.REFLINK, How.COPY))
    attack = tmp_path / "attack.py"
    attack.write_text(_ATTACK)
    attack.chmod(0o644)
    outcome = run_as(JOB, attack, str(dest / "out/large.bin"), str(dest / "out/planted"), str(cache.root))
    assert outcome == (["could write", "could chmod", "could plant"] if copy else []), outcome
    for path in (tmp_path / "cache" / "blobs").glob("*/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.partition(".")[0]
        assert stat.S_IMODE(path.stat().st_mode) in (0o444, 0o555)
        assert path.stat().st_uid == os.geteuid()


_ATTACK = """
import os, sys
target, planted, cache = sys.argv[1:]

def attempt(name, act):
    try:
        act()
    except OSError:
        return
    print("could " + name)

assert open(target, "rb").read(1)
attempt("write", lambda: open(target, "r+b").write(b"altered"))
attempt("chmod", lambda: (os.chmod(target, 0o666), open(target, "r+b").write(b"altered")))
attempt("plant", lambda: open(planted, "w").write("x"))
attempt("list the cache", lambda: os.listdir(cache))
"""


def run_as(owner: Owner, script: Path, *args: str) -> list[str]:
    """Run a script as another user in a fork: the interpreter itself may lie where that user cannot go."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(writer, 1)
            os.setgroups([])
            os.setgid(owner.gid)
            os.setuid(owner.uid)
            sys.argv = [str(script), *args]
            exec(script.read_text(), {"__name__": "__main__", "print": _say})
        except BaseException as error:  # noqa: BLE001  (the parent reads what went wrong)
            _say(f"failed: {error!r}")
        os._exit(0)
    os.close(writer)
    with open(reader) as said:
        lines = said.read().splitlines()
    os.waitpid(child, 0)
    return lines


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


@needs_root
def test_mounting_by_link_costs_nothing_per_byte(tmp_path: Path) -> None:
    """The same blocks: a mounted file of a job under another user takes no room of its own."""
    cache = BlobCache(tmp_path / "cache")
    data = random.Random(9).randbytes(5_000_000)
    digest = hashlib.sha256(data).hexdigest()
    cache.add(digest, [data])
    dest = tmp_path / "work"
    dest.mkdir()
    mounted = mount(Manifest((FileEntry("model", len(data), digest),)), cache, dest, owner=JOB)
    if mounted.how is How.HARDLINK:
        assert (dest / "model").samefile(cache.path(digest))
        assert (dest / "model").stat().st_uid == os.geteuid()
    assert (dest / "model").read_bytes() == data


def test_without_a_user_of_its_own_a_job_gets_no_link(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache")
    digest = hashlib.sha256(b"weights").hexdigest()
    cache.add(digest, [b"weights"])
    for name, owner in (("same", None), ("root", Owner(0, 0)), ("self", Owner(os.geteuid(), os.getegid()))):
        dest = tmp_path / name
        dest.mkdir()
        assert mount(Manifest((FileEntry("m", 7, digest),)), cache, dest, owner=owner).how is not How.HARDLINK
        assert not (dest / "m").samefile(cache.path(digest))


# --- the cache


def entry(data: bytes) -> FileEntry:
    return FileEntry("x", len(data), hashlib.sha256(data).hexdigest())


def test_eviction_takes_the_longest_unused_and_spares_what_is_held(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    blobs = [bytes([n]) * 100 for n in range(5)]
    for age, blob in enumerate(blobs):
        cache.add(entry(blob).digest, [blob])
        os.utime(cache.path(entry(blob).digest), (0, 2_000_000_000 + age))
    with cache.hold([entry(blobs[0])]):
        assert cache.evict(300) == 200
        assert [cache.has(entry(blob).digest) for blob in blobs] == [True, False, False, True, True]
    assert cache.evict(0) == 300
    assert cache.evict(0) == 0


def test_entries_are_hashed_again_after_the_machine_went_down(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    for data in (b"whole", b"rotten"):
        cache.add(entry(data).digest, [data])
    rotten = cache.path(entry(b"rotten").digest)
    rotten.chmod(0o600)
    rotten.write_bytes(b"\0" * 6)
    for path in (rotten, cache.path(entry(b"whole").digest)):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (tmp_path / "boot").write_text("another-boot 1.0")
    again = BlobCache(tmp_path)
    assert again.has(entry(b"whole").digest)
    assert not again.has(entry(b"rotten").digest)


def test_what_dies_while_it_enters_the_cache_is_gone_at_the_next_start(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    (tmp_path / "incoming" / "7").write_bytes(b"half")
    with pytest.raises(Invalid):
        cache.add(entry(b"whole").digest, [b"who"])
    BlobCache(tmp_path)
    assert list((tmp_path / "incoming").iterdir()) == []
    assert not cache.has(entry(b"whole").digest)
