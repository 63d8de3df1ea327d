"""Patterns by GitHub Actions' rules, against its documented examples, regular expressions, and the clock."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.language.globs import Glob, matches_any
from dstack.language.quantities import Wrong


@pytest.mark.parametrize(
    ("pattern", "fits", "not_"),
    [
        ("feature/*", ["feature/my-branch", "feature/"], ["feature/beta-a/my-branch", "feature"]),
        ("feature/**", ["feature/beta-a/my-branch", "feature/x"], ["features/x"]),
        ("main", ["main"], ["mains", "xmain", "Main", ""]),
        ("*", ["main", "releases", ""], ["a/b"]),
        ("**", ["all/the/branches", "x", ""], []),
        ("*feature", ["mona-feature", "feature"], ["mona/feature"]),
        ("v2*", ["v2", "v2.0", "v2.9"], ["v1"]),
        ("v[12].[0-9]+.[0-9]+", ["v1.10.1", "v2.0.0"], ["v1.", "v3.0.0", "v1.0."]),
        ("*.jsx?", ["page.js", "page.jsx"], ["page.ts", "page.jsxx"]),
        ("**.js", ["index.js", "js/index.js", "src/js/app.js"], ["a.jsx"]),
        ("docs/*", ["docs/README.md"], ["docs/a/b.md"]),
        ("docs/**/*.md", ["docs/README.md", "docs/mona/hello-world.md", "docs/a/markdown/file.md"], ["x/docs/a.md"]),
        ("**/docs/**", ["docs/hello.md", "dir/docs/my-file.txt", "space/docs/plan/space.doc"], ["mydocs/x", "docs"]),
        ("**/README.md", ["README.md", "js/README.md"], ["xREADME.md"]),
        ("**/*src/**", ["a/src/app.js", "my-src/code/js/app.js"], ["a/srcs/b"]),
        ("**/*-post.md", ["my-post.md", "path/their-post.md"], ["post.md"]),
        ("**/migrate-*.sql", ["migrate-10909.sql", "db/migrate-v1.0.sql", "db/sept/migrate-v1.sql"], ["migrate.sql"]),
        ("a**/b", ["a/b", "ax/y/b"], ["ab", "b"]),
        ("\\*x", ["*x"], ["ax"]),
        ("(a+)+$", ["(a)$", "(aaa)))$"], ["aaa"]),
        ("a.c", ["a.c"], ["abc"]),
        ("[*]x", ["*x"], ["ax"]),
    ],
)
def test_github_rules(pattern: str, fits: list[str], not_: list[str]) -> None:
    assert [name for name in fits if not Glob(pattern).matches(name)] == []
    assert [name for name in not_ if Glob(pattern).matches(name)] == []


@pytest.mark.parametrize(
    ("patterns", "name", "verdict"),
    [
        (["*.md", "!README.md"], "README.md", False),
        (["*.md", "!README.md"], "hello.md", True),
        (["*.md", "!README.md", "README*"], "README.md", True),
        (["!README.md", "*.md"], "README.md", True),
        (["!x"], "y", False),
        ([], "y", False),
    ],
)
def test_the_last_pattern_that_fits_decides(patterns: list[str], name: str, verdict: bool) -> None:
    assert matches_any(patterns, name) is verdict


@pytest.mark.parametrize("pattern", ["", "[", "[]", "a[z-a]", "?x", "+x", "a++", "*?", "a" * 501])
def test_patterns_that_cannot_be_read(pattern: str) -> None:
    with pytest.raises(Wrong):
        Glob(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "**a**a**a**a**b", "*a" * 20 + "b", "a+" * 100 + "b", "[a-z]+" * 50, "**/" * 50 + "x"]
)
def test_no_pattern_takes_long_on_a_long_name(pattern: str) -> None:
    name = "a" * 50_000
    glob = Glob(pattern)
    start = time.process_time()
    glob.matches(name)
    assert time.process_time() - start < 0.5  # 50 ms and less on an idle machine; this one is shared


def regular(pattern: str) -> str:
    """The same pattern as a regular expression: slow on some, and right on short ones."""
    out, at = "", 0
    while at < len(pattern):
        if pattern.startswith("**/", at) and (at == 0 or pattern[at - 1] == "/"):
            out, at = out + "(?:(?s:.)*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + "(?s:.)*", at + 2
        elif pattern[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif pattern[at] in "?+":
            out, at = out + pattern[at], at + 1
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return out


@settings(max_examples=300, deadline=None)
@given(
    pattern=st.lists(st.sampled_from(["a", "b", "/", "*", "**", "**/", "a?", "b+"]), min_size=1, max_size=8).map(
        "".join
    ),
    name=st.text("ab/", max_size=10),
)
def test_short_names_agree_with_regular_expressions(pattern: str, name: str) -> None:
    if "***" in pattern:
        return
    assert Glob(pattern).matches(name) == bool(re.fullmatch(regular(pattern), name)), (pattern, name)
