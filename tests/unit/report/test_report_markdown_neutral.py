"""What a job wrote can be read in a comment of ours, and does nothing: no mention, reference, command, image, tag."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from dstack.server.report.markdown import closed, code, fenced, neutral, plain, tagged

PAGE = "http://ci.example.org/runs/brave-otter-17"
HOSTILE = [
    "@octocat", "hi @acme/team!", "a@b.example", "&#64;octocat", "&#x40;octocat", "&commat;octocat", r"\@octocat",
    "@@@x",
    "closes #1", "Fixes: #12", "resolved GH-7", "fixes acme/vision#3", "close https://github.com/acme/vision/issues/3",
    "**fixes** #1", "fix\n#1", "&num;1 fixes &#35;1", "[#1](#1)", "gh-12",
    "/dstack run train", "  /dstack stop", "> /train", "- /lgtm", "1. /merge", "x\r/dstack run", "x\u2028/dstack run",
    "x\x0b/dstack run", "\ufeff/dstack run", "\u202e/dstack run", "\x1b[0m/dstack run", "\t/x",
    "<!-- dstack:pull -->", "<!-- dstack:issue:train -->", "<script>alert(1)</script>", "<img src=x>", "</details>",
    "<https://evil.example>", "<?x", "<!X", "<![CDATA[", "<details><summary>x", "\ud800@x",
    "![plot](plot.png)", "![a](http://x/y.png 'title')", "![a][b]\n\n[b]: http://x/y.png", "![b]", "![a](x(y)z)",
    "[![a](b)](c)", "!\\[a](b)", "![" * 50, "```\nopen", "~~~~x\nopen", "- a\n  ```\n  open", "> ```\n> open",
    "````\n```\n",
    "\\```\nx", "    ```", "`" * 200, "a" * 3000, "| a | b |\n|---|---|\n| @x | /y |", "\n" * 2000, " " * 5000 + "/x",
]  # fmt: skip
PIECES = st.sampled_from(
    ["@", "octocat", "#", "1", "GH-", "closes ", "fix", "es ", "/", "dstack", "\n", " ", ">", "-", "<", "!--", "-->",
     "!", "[", "]", "(", ")", "`", "```", "~~~", "\\", "&", "#64;", "commat;", "https://github.com/a/b/issues/",
     "\u2028", "\r", "\u200b", "|", "\x1b[1m", "*", "_", "dstack:pull", "<details>", "</details>", "    ", "\t",
     "\x85", "x", "é"]
)  # fmt: skip


def check_harmless(text: str) -> None:
    assert not re.search(r"@[^\s\u200b]", text), "a mention"
    assert not re.search(r"#\d|\bGH-\d", text, re.IGNORECASE), "a reference"
    assert not re.search(r"/(issues|pull|discussions)/\d", text, re.IGNORECASE), "a reference by address"
    assert not re.search(r"(?i)\b(close[sd]?|fix(es|ed)?|resolve[sd]?):?\s+(#|GH-|https?:)", text), "a closing word"
    assert not re.search(r"<[A-Za-z/!?]", text), "markup, or a marker of ours"
    assert "![" not in text, "an image"
    for line in text.splitlines():
        assert not re.match(r"[\s>*+.)\d-]*/\S", line) or re.match(r"[\s>*+.)\d-]*/\u200b", line), "a command"
    decoded = html.unescape(text)
    assert not re.search(r"@[A-Za-z]|#\d", decoded), "an entity that stands for one"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_reports_are_harmless_and_swallow_nothing(text: str) -> None:
    check_harmless(neutral(text, PAGE))
    check_harmless(plain(text, 5000))
    check_harmless(html.unescape(tagged(text, 5000)))
    check_ends(closed(neutral(text, PAGE)))


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_mixture_of_them_acts(text: str) -> None:
    check_harmless(neutral(text, PAGE))
    check_harmless(plain(text, 5000))
    check_ends(closed(neutral(text, PAGE)))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_no_text_at_all_acts(text: str) -> None:
    check_harmless(neutral(text))
    assert "\n" not in plain(text) and "\n" not in code(text) and "\n" not in tagged(text)
    neutral(text).encode()


def check_ends(text: str) -> None:
    """What follows is a paragraph of its own, whatever stood before."""
    tokens = MarkdownIt("commonmark").parse(f"{text}\n\nAFTER\n")
    assert [t.type for t in tokens[-3:]] == ["paragraph_open", "inline", "paragraph_close"]
    assert tokens[-2].content == "AFTER" and tokens[-3].level == 0


def test_markdown_stays_markdown() -> None:
    text = "# Result\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n**bold** `code` a < b, a & b, x/y, 50%\n\n- one\n- two\n"
    assert neutral(text, PAGE) == text


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("![loss](loss.png)", f"[image: loss]({PAGE})"),
        ("![](loss.png)", f"[image: image]({PAGE})"),
        ("![loss][l]", f"[image: loss]({PAGE})"),
        ("a ![x](http://h/x(1).png) b", f"a [image: x]({PAGE}) b"),
    ],
)
def test_images_become_links_to_the_run(written: str, shown: str) -> None:
    assert neutral(written, PAGE) == shown


@pytest.mark.parametrize(
    "inside", ["plain", "```\nx\n```", "`````", "<!-- dstack:issue:train -->", "/dstack run\n/x", ""]
)
def test_nothing_ends_a_fence_from_inside(inside: str) -> None:
    text = fenced(inside)
    tokens = MarkdownIt("commonmark").parse(f"{text}\n\nAFTER")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert "<!--" not in text and not re.search(r"(?m)^/[a-z]", text)


def test_colours_of_a_terminal_are_left_out() -> None:
    assert plain("\x1b[1;31merror\x1b[0m: \x1b]8;;http://x\x07link\x1b]8;;\x07 done") == "error: link done"


def test_long_lines_are_cut_by_characters() -> None:
    assert plain("é" * 600) == "é" * 499 + "…"
    assert len(code("x" * 50, 10)) == 12


def test_a_cell_of_a_table_stays_one_cell() -> None:
    assert plain("a|b\nc") == r"a\|b c"
    assert "|" not in code("a|b")


def test_neutralising_64_kb_of_anything_is_quick() -> None:
    import time

    for piece in (
        "@",
        "/",
        "fix ",
        "![",
        "<",
        "&#64;",
        "\n",
        " ",
        "`",
        "> ",
        "- /",
        "#1",
        "[a](b",
        "\\",
        "fix:",
        "fixes\n",
    ):
        began = time.perf_counter()
        closed(neutral((piece * 65536)[:65536], PAGE))
        assert time.perf_counter() - began < 5, piece


@pytest.mark.parametrize("text", ["fix " + "_" * 65532, ("fix " + "_" * 20) * 2700, "fix" + "*" * 30000 + " " * 30000])
def test_words_that_nearly_close_an_issue_cost_no_more_than_others(text: str) -> None:
    import time

    began = time.perf_counter()
    neutral(text)
    assert time.perf_counter() - began < 2
