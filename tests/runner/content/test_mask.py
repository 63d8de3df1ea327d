"""Masking: every usual encoding, any cut of the stream, and nothing else."""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
import shlex
import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack_runner.mask import MASK, Masker

TOKEN = "sk-live/4f9A+zQ==8c'x\"y z&ä"
PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END KEY-----\n"


def masked(secrets: list[str], *pieces: bytes) -> bytes:
    masker = Masker(secrets)
    return b"".join([*map(masker.feed, pieces), masker.flush()])


def encodings(secret: str) -> dict[str, bytes]:
    raw = secret.encode()
    wrapped = base64.encodebytes(raw * 1)
    return {
        "plain": raw,
        "base64": base64.b64encode(raw).rstrip(b"="),
        "base64, 1 before": base64.b64encode(b":" + raw + b":"),
        "base64, 2 before": base64.b64encode(b"u:" + raw + b"::"),
        "base64, basic auth": base64.b64encode(b"user:" + raw),
        "base64 urlsafe": base64.urlsafe_b64encode(raw),
        "base64 of a line": base64.b64encode(raw + b"\n"),
        "base64 twice": base64.b64encode(base64.b64encode(raw)),
        "base64 twice, shifted": base64.b64encode(b"x" + base64.b64encode(b"y" + raw)),
        "base64, wrapped": wrapped,
        "hex": raw.hex().encode(),
        "hex upper": raw.hex().upper().encode(),
        "url": quote(secret).encode(),
        "url, all": quote(secret, safe="").encode(),
        "url, lower": re.sub("%..", lambda m: m[0].lower(), quote(secret, safe="")).encode(),
        "form": quote_plus(secret).encode(),
        "json": json.dumps(secret).encode(),
        "json, utf-8": json.dumps(secret, ensure_ascii=False).encode(),
        "json in json": json.dumps(json.dumps(secret)).encode(),
        "repr": repr(secret).encode(),
        "shell": shlex.quote(secret).encode(),
        "shell, single quotes": b"'" + secret.replace("'", "'\\''").encode() + b"'",
    }


def leaks(output: bytes, encoded: bytes, longest: int = 7) -> bool:
    """Whether more than a stray character or two of the encoded secret is left."""
    return any(encoded[n : n + longest] in output for n in range(len(encoded) - longest + 1))


@pytest.mark.parametrize("name", sorted(encodings(TOKEN)))
def test_each_encoding_is_masked(name: str) -> None:
    encoded = encodings(TOKEN)[name]
    output = masked([TOKEN], b"before " + encoded + b" after\n")
    if "before" not in name and "shifted" not in name and "basic" not in name:
        assert not leaks(output, encoded), output
    assert MASK in output
    assert output.startswith(b"before ")
    assert output.endswith(b" after\n")


@pytest.mark.parametrize("length", [4, 5, 7, 8, 15, 22, 23, 40, 200])
def test_every_length_is_masked_in_every_encoding(length: int) -> None:
    secret = "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))
    for name, encoded in encodings(secret).items():
        output = masked([secret], b"." * 100 + encoded + b"." * 100)
        assert MASK in output, name
        assert secret.encode() not in output, name


def test_secrets_too_short_are_left() -> None:
    assert masked(["abc", ""], b"abc abcd") == b"abc abcd"


def test_a_secret_of_several_lines_is_masked_line_by_line() -> None:
    lines = PEM.splitlines()
    shown = b"".join(b"  > %s\r\n" % line.encode() for line in lines)
    output = masked([PEM], shown)
    assert not any(line.encode() in output for line in lines)
    assert masked([PEM], b"A" + PEM.encode() + b"B").startswith(b"A" + MASK)
    assert masked(['{"a": 1,\n}\n'], b"}\n}\n") == b"}\n}\n"


def test_overlaps_become_one_mask() -> None:
    assert masked(["abcdef", "defghi"], b"<abcdefghi>") == b"<***>"
    assert masked(["abcd", "abcdefgh"], b"<abcdefgh> <abcdx>") == b"<***> <***x>"
    assert masked(["aaaa"], b"aaaaaaaaa-aaa") == b"***-aaa"
    assert masked(["abcdef"], b"abcdefabcdef") == b"******"


def test_what_cannot_begin_a_secret_is_shown_at_once() -> None:
    masker = Masker(["hunter2-hunter2"])
    assert masker.feed(b"password: ") == b"password: "
    assert masker.feed(b"hunt") == b""
    assert masker.feed(b"ing\n") == b"hunting\n"
    assert masker.feed(b"hunter2-") == b""
    assert masker.flush() == b"hunter2-"
    assert masker.flush() == b""


def test_an_endless_overlap_is_not_held_back() -> None:
    masker = Masker(["aaaa"])
    shown = b"".join(masker.feed(b"a" * 1000) for _ in range(20))
    assert shown == MASK
    assert masker.feed(b"b") + masker.flush() == b"b"


CANARIES = ["s3cr3t-canary-value-of-some-length", "aab-aabaa", "p@ss/w0rd+x=="]
_NOISE = st.sampled_from(
    [b"aab-", b"aaba", b"s3cr3t-", b"plain text\n", b"p@ss", b"\xff\xfe", b"czNjcjN0", b"0123456789abcdef" * 3]
)
_PIECES = st.lists(
    st.one_of(_NOISE, st.sampled_from([e for canary in CANARIES for e in encodings(canary).values()])), max_size=8
)


@settings(max_examples=200)
@given(_PIECES, st.lists(st.integers(min_value=0, max_value=2000), max_size=12))
def test_any_cut_gives_the_same_and_no_canary(pieces: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(pieces)
    points = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    cut = [stream[a:b] for a, b in itertools.pairwise(points)]
    output = masked(CANARIES, *cut)
    assert output == masked(CANARIES, stream)
    assert not any(canary.encode() in output for canary in CANARIES)


def test_byte_by_byte_is_the_same() -> None:
    stream = b" ".join(e for canary in CANARIES for e in encodings(canary).values())
    assert masked(CANARIES, *(stream[n : n + 1] for n in range(len(stream)))) == masked(CANARIES, stream)


def test_all_bytes_pass_when_there_is_nothing_to_hide() -> None:
    data = random.Random(7).randbytes(300_000)
    assert masked([], data) == data
    assert masked(["not in there, surely"], data[:100_001], data[100_001:]) == data


def test_long_secrets_cost_no_blow_up() -> None:
    """A kubeconfig of 16 KB is masked at a usable speed, also while its beginning repeats."""
    secret = "\n".join("".join(random.Random(n).choices(string.ascii_letters, k=76)) for n in range(200))
    masker = Masker([secret])
    began = time.monotonic()
    for _ in range(20):
        masker.feed(secret.encode()[:9000] + b"x")
    assert time.monotonic() - began < 10
