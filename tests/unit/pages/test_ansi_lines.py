"""Job output is hostile: what a line may look like in a page, and that chunks never matter."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.web.render.ansi import LineFolder, Style, next_style, render_line, shows_something


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.open = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.open += 1

    def handle_endtag(self, tag: str) -> None:
        self.open -= 1

    def handle_data(self, data: str) -> None:
        self.text += data


def see(html: str) -> _Seen:
    seen = _Seen()
    seen.feed(html)
    seen.close()
    return seen


@pytest.mark.parametrize(
    ("raw", "html"),
    [
        (b"plain", "plain"),
        (b"a <script>alert(1)</script> & b", "a &lt;script&gt;alert(1)&lt;/script&gt; &amp; b"),
        (b"{{ 7*7 }} ${7*7}", "{{ 7*7 }} ${7*7}"),
        (b"\x1b[31mred\x1b[0m off", '<span class="f1">red</span> off'),
        (b"\x1b[1;32mboth\x1b[m", '<span class="f2 bold">both</span>'),
        (b"\x1b[38;5;196mx", '<span class="f9">x</span>'),
        (b"\x1b[38;2;255;0;0mx", '<span class="f9">x</span>'),
        (b"\x1b[38:2::255:0:0mx", '<span class="f9">x</span>'),
        (b"\x1b[31;47mx", '<span class="b7">x</span>'),
        (b"\x1b[4:3mwavy", '<span class="underline">wavy</span>'),
        (b"\x1b[8mhidden", "hidden"),
        (b"\x1b[2J\x1b[1;1Hhome\x1b[10A\x1b[?25l", "home"),
        (b"\x1b]8;;http://evil\x07link\x1b]8;;\x07!", "link!"),
        (b"\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\!", "link!"),
        (b"before \x1b]8;;http://unclosed link", "before "),
        (b"\x1b]52;c;ZXZpbA==\x07copied", "copied"),
        (b"\x1b]0;title\x07x\x1bPq#0\x1b\\y\x1b_apc\x1b\\z", "xyz"),
        (b"\x1b[6n\x1b[cprobe\x1b", "probe"),
        (b"\xc2\x9b31mc1\xc2\x9d8;;x\xc2\x9c!", '<span class="f1">c1!</span>'),
        (b"nul\x00bel\x07del\x7f", "nulbeldel"),
        (b"tab\tstays", "tab\tstays"),
        ("safe\u202egpj.exe".encode(), 'safe<span class="unseen">U+202E</span>gpj.exe'),
        (
            "a\u200bb\u2066c\ufeff".encode(),
            'a<span class="unseen">U+200B</span>b<span class="unseen">U+2066</span>c<span class="unseen">U+FEFF</span>',
        ),
        (b"\xff\xfe broken \xe2\x82", "\ufffd\ufffd broken \ufffd"),
        ("family \U0001f469\u200d\U0001f467".encode(), "family \U0001f469\u200d\U0001f467"),
        (b"1/9\b\b\b2/9", "2/9"),
        (b"\b\b\bx", "x"),
    ],
)
def test_a_line(raw: bytes, html: str) -> None:
    assert render_line(raw)[0] == html


def test_colours_go_on_to_the_next_line_until_they_are_reset() -> None:
    first, style = render_line(b"\x1b[33mwarn")
    second, style = render_line(b"still\x1b[39m off", style)
    assert (first, second) == ('<span class="f3">warn</span>', '<span class="f3">still</span> off')
    assert style == Style()


@pytest.mark.parametrize(
    "parameters",
    ["38", "38;5", "38;2;1;2", "48;5;999", "999999999999999999999", ";;;", ":", "38:2", "1" * 5000, "1;" * 4000],
)
def test_malformed_colours_change_nothing_that_hurts(parameters: str) -> None:
    style = next_style(Style(), parameters)
    assert style.fg is None or 0 <= style.fg < 16
    assert style.bg is None or 0 <= style.bg < 16


def test_every_colour_of_256_is_one_of_ours() -> None:
    for index in range(256):
        fg = next_style(Style(), f"38;5;{index}").fg
        assert fg is not None and 0 <= fg < 16


@given(st.binary(max_size=400))
def test_no_bytes_make_an_element_a_control_or_an_open_tag(raw: bytes) -> None:
    html, _ = render_line(raw.replace(b"\n", b""))
    seen = see(html)
    assert {tag for tag, _ in seen.tags} <= {"span"}
    assert {attrs for _, attrs in seen.tags} <= {("class",)}
    assert seen.open == 0
    assert not re.search("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    assert all(re.fullmatch(r"[a-z0-9 ]+", value) for value in re.findall(r'class="([^"]*)"', html))


@pytest.mark.parametrize(
    ("data", "lines", "rest"),
    [
        (b"a\nb\n", [b"a", b"b"], b""),
        (b"a\r\nb", [b"a"], b"b"),
        (b" 10%\r 50%\r100%\n", [b"100%"], b""),
        (b" 10%\r 50%", [], b" 50%"),
        (b" 10%\r 50%\r", [], b" 50%"),
        (b"bar 99%\r       \rdone\n", [b"done"], b""),
        (b"bar 99%\r       \r\n", [b"bar 99%"], b""),
        (b"bar\r\x1b[K\n", [b"bar"], b""),
        (b"\r\r\r\n", [b""], b""),
        (b"\n\n", [b"", b""], b""),
    ],
)
def test_carriage_returns_fold_to_the_last_state(data: bytes, lines: list[bytes], rest: bytes) -> None:
    folder = LineFolder()
    assert folder.feed(data) == lines
    assert folder.peek() == rest


_PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b"a", b" ", b"\xe2\x82\xac", b"\x1b[31m", b"\xff", b"0123456789"]), max_size=40
)


@given(_PIECES, st.lists(st.integers(0, 120), max_size=8))
def test_where_chunks_end_does_not_matter(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    whole = LineFolder(limit=16)
    expected = (whole.feed(data), whole.peek())
    parts = LineFolder(limit=16)
    lines: list[bytes] = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        lines += parts.feed(data[at:cut])
        at = max(at, min(cut, len(data)))
    assert (lines, parts.peek()) == expected


def test_a_character_split_between_chunks_is_whole() -> None:
    folder = LineFolder()
    lines = [line for byte in "grün €\n".encode() for line in folder.feed(bytes([byte]))]
    assert render_line(lines[0])[0] == "grün €"


def test_an_endless_line_is_cut_with_a_marker_in_bounded_memory() -> None:
    folder = LineFolder(limit=100)
    for _ in range(1000):
        assert folder.feed(b"x" * 1000) == []
    line = folder.feed(b"\n")[0]
    text = see(render_line(line)[0]).text
    assert text.startswith("x" * 100 + " ") and "999,900 more bytes" in text
    assert len(line) < 300


def test_an_unclosed_sequence_does_not_swallow_the_marker() -> None:
    folder = LineFolder(limit=20)
    line = folder.feed(b"ok\x1b]8;;http://evil" + b"x" * 100 + b"\n")[0]
    assert "more bytes" in see(render_line(line)[0]).text


def test_a_bar_that_runs_for_hours_keeps_only_its_last_state() -> None:
    folder = LineFolder(limit=100)
    for step in range(20_000):
        folder.feed(b"\r%d%%" % step)
    assert folder.peek() == b"19999%"
    assert folder.feed(b"\n") == [b"19999%"]


@pytest.mark.parametrize(("raw", "shows"), [(b"  ", False), (b"\x1b[K", False), (b"\x1b[31mx", True), (b"", False)])
def test_what_shows(raw: bytes, shows: bool) -> None:
    assert shows_something(raw) is shows
