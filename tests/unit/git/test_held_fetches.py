"""A fetch is read and written anew, and asks for one commit or is refused."""

from __future__ import annotations

import gzip

import pytest

from dstack.errors import DstackError, Malformed, NotAllowed, TooLarge
from dstack.git.wants import MAX_ASK, held_to, unpacked

MINE, OTHER = "a" * 40, "b" * 40
HEAD = ("command=fetch", "agent=git/2.39.5", "object-format=sha1")


def ask(*args: str, head: tuple[str, ...] = HEAD) -> bytes:
    def packet(line: str) -> bytes:
        return b"%04x%b\n" % (len(line) + 5, line.encode())

    return b"".join([*map(packet, head), b"0001", *map(packet, args), b"0000"])


def test_its_own_commit_goes_on_with_what_says_how() -> None:
    asked = ask("thin-pack", "include-tag", "ofs-delta", f"want {MINE}", f"have {OTHER}", "done")
    kept = ask("thin-pack", "ofs-delta", f"want {MINE}", f"have {OTHER}", "done", head=("command=fetch",))
    assert held_to(MINE, asked) == kept
    assert held_to(MINE, kept) == kept


def test_a_sha256_repository_is_asked_in_its_own_form() -> None:
    sha = "c" * 64
    assert b"object-format=sha256" in held_to(sha, ask(f"want {sha}", "done"))


@pytest.mark.parametrize(
    "line",
    [
        f"want {OTHER}", f"want {MINE}0", f"want {MINE.upper()}", f"want {MINE} {OTHER}", "want-ref refs/heads/main",
        f"want {MINE}\nwant {OTHER}", "filter blob:none", "deepen 1", f"shallow {OTHER}", "deepen-not refs/heads/x",
        "packfile-uris https", "have main", "", "server-option=x",
    ],
)  # fmt: skip
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises((NotAllowed, Malformed)):
        held_to(MINE, ask(f"want {MINE}", line, "done"))


def test_a_list_of_refs_is_empty() -> None:
    asked = ask("peel", "symrefs", "ref-prefix refs/heads/", head=("command=ls-refs", *HEAD[1:]))
    assert held_to(MINE, asked) == ask("ref-prefix refs/none/", head=("command=ls-refs",))


@pytest.mark.parametrize("command", ["object-info", "bundle-uri", "fetch "])
def test_no_other_command_is_given(command: str) -> None:
    with pytest.raises(NotAllowed):
        held_to(MINE, ask(f"want {MINE}", head=(f"command={command}",)))


GOOD = ask(f"want {MINE}", "done")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"0000", GOOD[:-4], GOOD[:-10], GOOD + GOOD, GOOD + b"x", b"zzzz" + GOOD, b"0002" + GOOD, b"0003" + GOOD,
        b"0004" + GOOD, b"ffff" + GOOD, b"-004" + GOOD, b"00 5" + GOOD, GOOD.replace(b"0001", b""), b"\xff\xfe\x00",
    ],
)  # fmt: skip
def test_what_is_no_request_reaches_no_git(body: bytes) -> None:
    with pytest.raises((NotAllowed, Malformed)):
        held_to(MINE, body)


def test_a_packed_request_is_read_within_bounds() -> None:
    assert unpacked(gzip.compress(GOOD)) == GOOD
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(b"0" * (MAX_ASK + 1)))
    for broken in (b"", GOOD, gzip.compress(GOOD)[:-9]):
        with pytest.raises(DstackError):
            unpacked(broken)
