"""A report is written by a job: it may be read, and do nothing else."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.web.render.markdown import MAX_REPORT, is_safe_link, render_report

_ALLOWED = {
    "p", "h3", "h4", "h5", "h6", "a", "em", "strong", "s", "code", "pre", "ul", "ol", "li", "blockquote", "hr", "br",
    "table", "thead", "tbody", "tr", "th", "td", "div", "span",
}  # fmt: skip


class _Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def assert_harmless(html: str) -> None:
    for tag, attrs in _Elements(html).found:
        assert tag in _ALLOWED
        assert set(attrs) <= {"href", "rel", "target", "title", "class", "start"}
        if tag == "a":
            assert (attrs["href"] or "").startswith(("http://", "https://", "mailto:"))
            assert attrs["rel"] == "nofollow noopener noreferrer"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("# Title", "<h3>Title</h3>\n"),
        ("###### deep", "<h6>deep</h6>\n"),
        ("**b** *i* ~~s~~ `c`", "<p><strong>b</strong> <em>i</em> <s>s</s> <code>c</code></p>\n"),
        ("<b>raw</b>", "<p>&lt;b&gt;raw&lt;/b&gt;</p>\n"),
        ("[x](javascript:alert(1))", "<p><span>x</span></p>\n"),
        ("[x](JaVaScRiPt:alert(1))", "<p><span>x</span></p>\n"),
        ("[x](data:text/html,hi)", "<p><span>x</span></p>\n"),
        ("[x](/sign-out)", "<p><span>x</span></p>\n"),
        ("[x](//evil.example)", "<p><span>x</span></p>\n"),
        ("[*x*](vbscript:x)", "<p><span><em>x</em></span></p>\n"),
        ("![a](javascript:x)", "<p>image: a</p>\n"),
        ("{{ 7*7 }}", "<p>{{ 7*7 }}</p>\n"),
        ("```js onload=x\n<i>\n```", "<pre><code>&lt;i&gt;\n</code></pre>\n"),
    ],
)
def test_what_markdown_becomes(text: str, html: str) -> None:
    assert render_report(text) == html


def test_web_links_leave_without_a_trace() -> None:
    rel = 'rel="nofollow noopener noreferrer" target="_blank"'
    assert f'<a href="https://x.example/a?b=1&amp;c=2" {rel}>x</a>' in render_report("[x](https://x.example/a?b=1&c=2)")
    assert f'<a href="https://x.example/p.png" {rel}>image: alt</a>' in render_report("![alt](https://x.example/p.png)")


def test_tables_keep_their_alignment_without_inline_style() -> None:
    html = render_report("| a | b |\n|:--|--:|\n| 1 | 2 |")
    assert '<th class="right">b</th>' in html and '<td class="right">2</td>' in html and "style" not in html


@pytest.mark.parametrize(
    "address",
    [
        "", "x", "/x", "//evil", "\\\\evil", "javascript:alert(1)", " javascript:alert(1)", "java\tscript:x",
        "http:evil", "https:///x", "file:///etc/passwd", "ftp://x", "http://[bad",
    ],
)  # fmt: skip
def test_addresses_that_are_not_links(address: str) -> None:
    assert not is_safe_link(address)


@given(st.text(alphabet="<>[]()!#*_`~|-&\"'\\/:;= \nabcjsx0{}", max_size=300))
def test_no_text_makes_anything_else(text: str) -> None:
    assert_harmless(render_report(text))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<https://ok.example>", "<javascript:alert(1)>",
        "[a]: javascript:x\n\n[a]", '[t](https://x.example "\\"><script>")', "&lt;script&gt;",
        "<!-- x --><svg onload=x>",
    ],
)  # fmt: skip
def test_hostile_reports(text: str) -> None:
    assert_harmless(render_report(text))


@pytest.mark.parametrize("piece", ["[", "*a ", "> ", "`", "![", "| a ", "<", "- ", "&", "_a_*", "[a](", "\n\n1. "])
def test_a_long_report_is_cut_and_stays_quick(piece: str) -> None:
    began = time.monotonic()
    html = render_report(piece * MAX_REPORT + "x")
    assert "The report is longer" in html
    assert time.monotonic() - began < 8
    assert_harmless(html)
