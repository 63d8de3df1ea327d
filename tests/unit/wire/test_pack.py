"""The framing of packs: any split reads the same, and what is broken is refused."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.errors import DstackError, Invalid, Malformed, TooLarge
from dstack.wire.pack import HEAD_BYTES, MAGIC, PackReader, pack_end, pack_record, read_pack, write_pack


def named(*blobs: bytes) -> list[tuple[str, bytes]]:
    return [(hashlib.sha256(blob).hexdigest(), blob) for blob in blobs]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(points)]


@given(st.lists(st.binary(max_size=200)), st.lists(st.integers(min_value=0)))
def test_any_split_reads_the_same(blobs: list[bytes], cuts: list[int]) -> None:
    assert list(read_pack(split(write_pack(named(*blobs)), cuts))) == named(*blobs)


@given(st.lists(st.binary(max_size=50)), st.integers(min_value=0))
def test_a_cut_pack_is_never_read_as_whole(blobs: list[bytes], cut: int) -> None:
    pack = write_pack(named(*blobs))
    with pytest.raises(Malformed):
        list(read_pack([pack[: cut % len(pack)]]))


@given(st.binary(max_size=300))
def test_noise_is_refused_in_words(noise: bytes) -> None:
    with pytest.raises(DstackError):
        list(read_pack([noise]))


def test_each_fault_has_its_error() -> None:
    ((digest, blob),) = named(b"blob")
    cases: list[tuple[bytes, type[DstackError]]] = [
        (b"not a pack at all", Malformed),
        (MAGIC + pack_record(digest, b"blub") + pack_end(1), Invalid),
        (MAGIC + pack_record(digest, blob) + pack_end(2), Malformed),
        (write_pack([(digest, blob)]) + b"x", Malformed),
        (write_pack([(digest, blob)]) + pack_end(1), Malformed),
    ]
    for body, kind in cases:
        with pytest.raises(kind):
            list(read_pack([body]))


def test_a_blob_above_the_limit_is_refused_by_its_head_alone() -> None:
    reader = PackReader(blob_limit=3)
    head = (MAGIC + pack_record(named(b"blob")[0][0], b"blob"))[: len(MAGIC) + HEAD_BYTES]
    with pytest.raises(TooLarge):
        reader.feed(head)
