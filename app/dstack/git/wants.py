"""What a fetch of protocol version 2 asks for, read and written anew, so that it can be held to one commit; pure.

Git itself hands out any object whose id is known, and by protocol version 0 still any tree and blob.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

from dstack.errors import Malformed, NotAllowed, TooLarge

PROTOCOL = "version=2"
MAX_ASK = 8 * 1024 * 1024  # 50 bytes for each commit that the other side has
_NO_REF = "refs/none/"
_FLUSH, _DELIMITER = "0000", "0001"
_HAVE = re.compile(r"have (?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_PLAIN = frozenset({"thin-pack", "no-progress", "ofs-delta", "wait-for-done", "done"})
_PASSED_OVER = frozenset({"include-tag", "sideband-all"})  # good for nothing where there is one commit


def held_to(sha: str, ask: bytes) -> bytes:
    """The same request in our own words, if it asks for this commit (with what leads to it) and nothing else; one for a
    list of refs gets an empty list. Raises NotAllowed for any other, Malformed for what is none."""
    lines = list(_lines(ask))
    form = ["object-format=sha256"] if len(sha) == 64 else []
    if lines[:1] == ["command=ls-refs"]:
        return _request("ls-refs", form, [f"ref-prefix {_NO_REF}"])
    if lines[:1] != ["command=fetch"]:
        raise NotAllowed("this token opens one commit alone", f"Fetch it by its id: {sha}.")
    if _DELIMITER not in lines:
        raise Malformed("a fetch that asks for nothing")
    asked = lines[lines.index(_DELIMITER) + 1 :]
    kept = []
    for line in asked:
        if line in _PLAIN or line == f"want {sha}" or _HAVE.match(line):
            kept.append(line)
        elif line not in _PASSED_OVER:
            raise NotAllowed(f"this token opens {sha[:12]} alone, and {line[:80]!r} is asked for")
    return _request("fetch", form, kept)


def unpacked(body: bytes) -> bytes:
    """What a gzipped request holds. Raises Malformed, and TooLarge."""
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = reader.decompress(body, MAX_ASK)
    except zlib.error:
        raise Malformed("the request is not gzip") from None
    if reader.unconsumed_tail:
        raise TooLarge(f"a fetch may ask with {MAX_ASK} bytes")
    if not reader.eof:
        raise Malformed("the request breaks off")
    return found


def _lines(ask: bytes) -> Iterator[str]:
    """The packets up to the one that ends the request, which must be the last thing in it."""
    place = 0
    while place < len(ask):
        mark = ask[place : place + 4].decode("latin-1")
        if mark == _FLUSH:
            if place + 4 != len(ask):
                raise Malformed("something follows the end of the request")
            return
        if mark == _DELIMITER:
            yield _DELIMITER
            place += 4
            continue
        length = _length(mark)
        line = ask[place + 4 : place + length]
        if len(line) != length - 4:
            break
        yield line.decode("latin-1").removesuffix("\n")
        place += length
    raise Malformed("the request breaks off")


def _length(mark: str) -> int:
    if not re.fullmatch(r"[0-9a-fA-F]{4}", mark) or (length := int(mark, 16)) <= 4:
        raise Malformed(f"not a packet of git: {mark!r}")
    return length


def _request(command: str, form: Sequence[str], args: Sequence[str]) -> bytes:
    head = b"".join(map(_packet, [f"command={command}", *form]))
    return head + _DELIMITER.encode() + b"".join(map(_packet, args)) + _FLUSH.encode()


def _packet(line: str) -> bytes:
    data = line.encode("latin-1") + b"\n"
    return b"%04x" % (len(data) + 4) + data
