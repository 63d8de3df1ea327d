"""A digest may be read in public; an untrusted attempt cannot turn it into the content behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fork_scene import Forks
from served_api import Held, manifest_of, sha256
from sqlmodel import col, select

from dstack.server.models import Upload
from dstack.wire.pack import write_pack

SECRET = b"the weights of another repository"
HIDDEN = sha256(SECRET)


@pytest.fixture(scope="module")
def hidden(scene: Forks) -> Held:
    """A trusted attempt of another repo that has stored what nobody else may have."""
    held = scene.api.attempt()
    held.save("model", {"model/w": SECRET})
    return held


@pytest.fixture
def stranger(scene: Forks, hidden: Held) -> Iterator[Held]:
    number = scene.fork_pull()
    scene.say(number, f"/dstack approve {scene.head(number)}")
    held = scene.take(scene.runs_of(number)[0])
    yield held
    held.finish("failed", reason="exit_code", exit_code=1)


def missing(held: Held, *digests: str) -> list[str]:
    return held.ok("POST", "blobs/missing", json={"digests": list(digests)})["missing"]


def save(held: Held, path: str, manifest: object) -> tuple[int, str]:
    answer = held.call("POST", "artifacts", json={"path": path, "manifest": manifest.encode().decode()})  # type: ignore[attr-defined]
    return answer.status_code, answer.text


def test_what_it_has_not_sent_is_missing_whoever_has_it(stranger: Held, hidden: Held) -> None:
    absent = sha256(b"nobody has this")
    assert missing(hidden, HIDDEN, absent) == [absent]  # a trusted one saves the sending
    assert missing(stranger, absent, HIDDEN) == [absent, HIDDEN]


def test_naming_a_digest_opens_nothing(scene: Forks, stranger: Held) -> None:
    theft = manifest_of({"model/w": SECRET})
    unknown = manifest_of({"model/w": b"nobody has this"})
    taken, absent = save(stranger, "model", theft), save(stranger, "model", unknown)
    assert taken[0] == 422 and "lacks 1 blobs" in taken[1]
    assert (
        absent[0] == 422 and absent[1].split('"request_id"')[0] == taken[1].split('"request_id"')[0]
    )  # the same words
    assert scene.api.get_run(stranger.run)["jobs"][0]["artifacts"] == []
    for verb in (f"blobs/{HIDDEN}", f"manifests/{HIDDEN}", f"manifests/{manifest_of({'model/w': SECRET}).digest}"):
        assert stranger.call("GET", verb).status_code == 404
    assert stranger.call("POST", "packs/read", json={"digests": [HIDDEN]}).status_code == 404


def test_other_bytes_prove_nothing(stranger: Held) -> None:
    """And the answer does not tell whether the store has the blob."""
    absent = sha256(b"nobody has this")
    said = []
    for digest in (HIDDEN, absent):
        for data in (b"x" * len(SECRET), b"", SECRET + b"x"):
            answer = stranger.call("PUT", f"blobs/{digest}", data=data)
            said.append((answer.status_code, answer.json()["message"].replace(digest, "D"), answer.json()["hint"]))
    assert len(set(said)) == 1 and said[0][0] == 422
    assert missing(stranger, HIDDEN) == [HIDDEN]
    forged = write_pack([(HIDDEN, b"x" * 5)])
    assert stranger.call("PUT", "packs", data=forged).status_code == 422
    assert save(stranger, "model", manifest_of({"model/w": SECRET}))[0] == 422


def test_what_it_has_sent_is_its_own(scene: Forks, stranger: Held) -> None:
    files = {"out/a": b"alone", "out/b": b"in a pack", "out/w": SECRET}  # whoever has the bytes may send them
    stranger.ok("PUT", f"blobs/{sha256(b'alone')}", data=b"alone")
    stranger.ok("PUT", f"blobs/{HIDDEN}", data=SECRET)
    assert save(stranger, "out", manifest_of(files))[0] == 422
    stranger.ok("PUT", "packs", data=write_pack([(sha256(b"in a pack"), b"in a pack")]))
    assert missing(stranger, *map(sha256, files.values())) == []
    assert save(stranger, "out", manifest_of(files))[0] == 200
    assert save(stranger, "out", manifest_of(files))[0] == 200
    rows = scene.api.wiring.db.read(
        lambda s: s.exec(select(Upload.digest).where(col(Upload.attempt_id) == stranger.attempt)).all()
    )
    assert sorted(rows) == sorted(map(sha256, files.values()))


def test_what_one_stranger_sent_another_does_not_have(scene: Forks, stranger: Held) -> None:
    stranger.save("model", {"model/w": b"mine"})
    number = scene.fork_pull()
    scene.say(number, f"/dstack approve {scene.head(number)}")
    other = scene.take(scene.runs_of(number)[0])
    assert missing(other, sha256(b"mine")) == [sha256(b"mine")]
    assert save(other, "model", manifest_of({"model/w": b"mine"}))[0] == 422
    other.finish("failed", reason="exit_code", exit_code=1)


def test_what_it_was_given_may_come_out_again(scene: Forks) -> None:
    number = scene.fork_pull()
    scene.say(number, f"/dstack approve {scene.head(number)}")
    train, evaluate = scene.runs_of(number)
    first = scene.take(train)
    first.save("model", {"model/w": b"passed on"})
    assert first.finish().status_code == 204
    second = scene.take(evaluate)
    assert missing(second, sha256(b"passed on"), HIDDEN) == [HIDDEN]
    assert save(second, "copy", manifest_of({"copy/w": b"passed on"}))[0] == 200
    assert second.finish().status_code == 204


def test_a_trusted_attempt_goes_on_as_ever(scene: Forks, hidden: Held) -> None:
    held = scene.api.attempt()
    assert missing(held, HIDDEN) == []
    assert save(held, "model", manifest_of({"model/w": SECRET}))[0] == 200
    uploads = scene.api.wiring.db.read(
        lambda s: s.exec(select(Upload).where(col(Upload.attempt_id).in_([held.attempt, hidden.attempt]))).all()
    )
    assert uploads == []
