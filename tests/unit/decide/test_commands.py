"""Which lines of a comment are commands, and what they say."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.errors import Usage
from dstack.language.flags import read_flags
from dstack.server.decide.as_said import Heard, is_base_as_said, is_head_as_said
from dstack.server.decide.command_lines import Line, find_lines, of_known_words
from dstack.server.decide.commands import MAX_LINE, Asked, Verb, read_line

WORDS = {"/train": ("train",), "/all": ("prepare", "train")}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("/train", ["/train"]),
        ("/train --lr 3e-4", ["/train --lr 3e-4"]),
        ("/dstack run train --lr=3e-4", ["/dstack run train --lr=3e-4"]),
        ("/dstack\trun train", ["/dstack run train"]),
        ("/train  ", ["/train"]),
        ("Please:\n/train\nthanks", ["/train"]),
        ("/train\r\n/dstack status\r\n", ["/train", "/dstack status"]),
        ("/train\r/dstack status", ["/train", "/dstack status"]),
        ("- a list\n/train", ["/train"]),
        # mid-line, indented, another case
        ("please /train", []),
        (" /train", []),
        ("\t/train", []),
        ("    /train", []),
        ("/Train", []),
        ("/dstack: run", []),
        ("/usr/bin/train", []),
        ("/-train", []),
        ("//train", []),
        ("*/train*", []),
        ("`/train`", []),
        # fences
        ("```\n/train\n```", []),
        ("```sh\n/train\n```\n/dstack help", ["/dstack help"]),
        ("~~~\n/train\n~~~", []),
        ("~~~ a`b\n/train\n~~~", []),
        ("````\n```\n/train\n````", []),
        ("```\n~~~\n/train\n```\n", []),
        ("```\n/train", []),
        ("```\n``` x\n/train\n```", []),
        ("   ```\n/train\n   ```", []),
        ("``` a`b\n/train", ["/train"]),  # no fence: a backtick follows
        ("    ```\n/train", ["/train"]),  # indented code
        # quotes, and lines that belong to them
        ("> /train", []),
        ("> quoted\n/train", []),
        ("> quoted\n\n/train", ["/train"]),
        (">\n/train", ["/train"]),
        ("   > quoted\n/train", []),
        # HTML
        ("<!-- /train -->", []),
        ("<!--\n/train\n-->\n/dstack help", ["/dstack help"]),
        ("<!--\n\n/train", []),
        ("text <!--\n/train\n--> more", []),
        ("text <!--\n/train\n\n/dstack help", ["/dstack help"]),
        ("text <!-- a -->\n/train", ["/train"]),
        ("text <!-- a --> <!--\n/train\n", []),
        ("`<!--`\n/train", ["/train"]),
        ("a <!--\n```\n\n/train\n```", []),
        ("<pre>\n/train\n</pre>\n/dstack help", ["/dstack help"]),
        ("<blockquote>\n\n/train\n</BLOCKQUOTE>", []),
        ("<previous>\n/train", ["/train"]),
        ("<details>\n<summary>log</summary>\n/train\n</details>", []),
        ("<details>\n\n/train\n\n</details>\n\n/dstack help", ["/dstack help"]),
        ("<details>\n\n/train\n</details>\n/train", []),  # right below it is HTML still
        ("<details><summary>x</summary></details>\n/train\n\n/dstack help", ["/dstack help"]),
        ("<Table><tr><td>\n/train\n</td></tr></table>", []),
        ("<table>\n```\n/train\n\n/dstack help", ["/dstack help"]),
        ("text\n<div>\n/train", []),
        ("</p>\n/train", []),
        ("<hr/>\n/train", []),
        ("<hrx>\n/train", ["/train"]),
        ("    <div>\n/train", ["/train"]),  # indented code
        ("<?\n/train\n?>\n/dstack help", ["/dstack help"]),
        ("<![CDATA[\n\n/train ]\n]]>", []),
        ("<!X\n/train\n>\n/dstack help", ["/dstack help"]),
        # what nobody sees
        ("\u00a0/train", []),
        ("/train\u00a0--lr 3", []),
        ("/dstack\u00a0run train", []),
        ("/dstack run\u00a0train", []),
        ("\u200b/train", []),
        ("/tr\u200bain", []),
        ("/train\u200b", []),
        ("/train --lr 3\u202e", []),
        ("\ufeff/train", []),
        ("\uff0ftrain", []),
        ("/dstack run\u3000train", []),
        ("/train \x00", []),
        ("/train \x1b[0m", []),
        ("a\u2028/train", []),
        ("a\x0b/train", []),
        ("/train --note \u3164", []),
        ("/train --note naïve\U0001f600", ["/train --note naïve\U0001f600"]),
        ("", []),
        ("/", []),
    ],
)
def test_which_lines_are_commands(text: str, lines: list[str]) -> None:
    assert [line.text for line in find_lines(text)] == lines


def test_commands_of_other_programs_are_not_ours() -> None:
    lines = find_lines("/lgtm\n/train\n/cc somebody\n/dstack help")
    assert [line.word for line in of_known_words(lines, WORDS)] == ["/train", "/dstack"]


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("/train", Asked(Verb.RUN, ("train",))),
        ("/train --lr 3e-4", Asked(Verb.RUN, ("train",), ("--lr", "3e-4"))),
        ("/all --lr=1", Asked(Verb.RUN, ("prepare", "train"), ("--lr=1",))),
        ("/dstack run train --lr '3 4' --fresh", Asked(Verb.RUN, ("train",), ("--lr", "3 4", "--fresh"))),
        ("/dstack run train --x $(id)", Asked(Verb.RUN, ("train",), ("--x", "$(id)"))),
        ("/dstack run train --x `id` --y *", Asked(Verb.RUN, ("train",), ("--x", "`id`", "--y", "*"))),
        ("/dstack run train --x=@/etc/passwd", Asked(Verb.RUN, ("train",), ("--x=@/etc/passwd",))),
        ("/dstack run train --x @/etc/passwd # no", Asked(Verb.RUN, ("train",), ("--x", "@/etc/passwd", "#", "no"))),
        ("/dstack run train ; rm -rf /", Asked(Verb.RUN, ("train",), (";", "rm", "-rf", "/"))),
        ("/dstack run train --x $HOME ~", Asked(Verb.RUN, ("train",), ("--x", "$HOME", "~"))),
        ("/dstack plan", Asked(Verb.PLAN)),
        ("/dstack plan train --lr 3", Asked(Verb.PLAN, ("train",), ("--lr", "3"))),
        ("/dstack stop", Asked(Verb.STOP)),
        ("/dstack stop brave-otter-17", Asked(Verb.STOP, run="brave-otter-17")),
        ("/dstack retry brave-otter-17", Asked(Verb.RETRY, run="brave-otter-17")),
        ("/dstack tag brave-otter-17 prod", Asked(Verb.TAG, run="brave-otter-17", tag="prod")),
        ("/dstack approve ABC1234", Asked(Verb.APPROVE, sha="abc1234")),
        ("/dstack approve abc1234 4gpu-h", Asked(Verb.APPROVE, sha="abc1234", gpu_seconds=4 * 3600)),
        ("/dstack approve abc1234 30gpu-min", Asked(Verb.APPROVE, sha="abc1234", gpu_seconds=1800)),
        ("/dstack status", Asked(Verb.STATUS)),
        ("/dstack help", Asked(Verb.HELP)),
        ("/dstack", Asked(Verb.HELP)),
    ],
)
def test_what_a_command_asks_for(line: str, asked: Asked) -> None:
    (found,) = find_lines(line)
    assert read_line(found, WORDS) == asked


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/dstack run 'train", "a quote is not closed"),
        ('/train --lr "3', "a quote is not closed"),
        ("/dstack run train\\", "ends with a backslash"),
        ("/dstack rnu train", 'Did you mean "run"?'),
        ("/dstack train --lr 3", 'Did you mean "run train"?'),
        ("/dstack xyzzy", "Commands: run WORKFLOW"),
        ("/dstack run", "which workflow"),
        ("/dstack run --lr 3", "which workflow"),
        ("/dstack plan --lr 3", "which workflow"),
        ("/dstack stop a b", "one run at most"),
        ("/dstack retry a b", "one run at most"),
        ("/dstack tag a", "tag RUN NAME"),
        ("/dstack approve", "approve COMMIT"),
        ("/dstack approve abc12", "not a commit"),
        ("/dstack approve main", "not a commit"),
        ("/dstack approve abc1234 4", "is not a budget"),
        ("/dstack approve abc1234 -4gpu-h", "is not a budget"),
        ("/dstack approve abc1234 4gpu-h more", "approve COMMIT"),
        ("/dstack status now", "stands alone"),
        ("/eval", "Commands of its workflows: /all, /train"),
        ("/dstack run " + "x" * MAX_LINE, "longer than"),
    ],
)
def test_what_is_wrong_is_said_with_what_there_is(line: str, said: str) -> None:
    (found,) = find_lines(line)
    with pytest.raises(Usage) as caught:
        read_line(found, WORDS)
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("words", "variables", "fresh"),
    [
        (["--lr", "3e-4"], {"lr": "3e-4"}, False),
        (["--lr=3e-4", "--fresh"], {"lr": "3e-4"}, True),
        (["--var", "lr=3e-4"], {"lr": "3e-4"}, False),
        (["--batch_size", "4"], {"batch-size": "4"}, False),
        (["--lr", "-1"], {"lr": "-1"}, False),
        (["--lr", "@/etc/passwd"], {"lr": "@/etc/passwd"}, False),
        (["--var", "fresh=1"], {"fresh": "1"}, False),
    ],
)
def test_variables_are_read_as_the_command_line_reads_them(
    words: list[str], variables: dict[str, str], fresh: bool
) -> None:
    assert read_flags(words, "train", {"lr": "0.01", "batch-size": "32", "fresh": "x"}) == (variables, fresh)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lrr", "3"], "Did you mean --lr?"),
        (["3"], "no '3'"),
        (["--lr"], "expected one argument"),
        (["--var", "lr"], "NAME=VALUE"),
        (["--help"], "Its variables: --lr (0.01)"),
        (["-h"], "Its variables: --lr (0.01)"),
    ],
)
def test_wrong_variables_never_end_the_process(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Usage) as caught:
        read_flags(words, "train", {"lr": "0.01"})
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert capsys.readouterr() == ("", "")


HUGE = {
    "commands": "/train --lr 3\n" * 4_600,
    "slashes": "/" * 65_000,
    "fences": "```\n" * 16_000,
    "backticks": "`" * 65_000,
    "open remarks": "x <!--" * 10_000,
    "remarks in lines": "x <!--\n-->\n" * 6_000,
    "one line": "/train " + "a " * 32_000,
    "quotes": "> " * 32_000,
    "spaces": " " * 65_000 + "/train",
    "unseen": "/train " + "\u00e9" * 32_000,
    "pre": "<pre" * 16_000,
    "details": "<details>\n</details>\n\n" * 2_800,
    "tables": "<table>\n\n" * 7_000,
}


@pytest.mark.parametrize("text", HUGE.values(), ids=list(HUGE))
def test_64_kilobytes_are_read_within_50_ms(text: str) -> None:
    """Of its own time on a processor, the best of three: the machine may be busy."""

    def once() -> float:
        began = time.thread_time()
        for line in of_known_words(find_lines(text), WORDS)[:5]:
            try:
                read_line(line, WORDS)
            except Usage:
                continue
        return time.thread_time() - began

    assert min(once() for _ in range(3)) < 0.05


@settings(max_examples=5_000, deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from("/dstack run`~>\n\r\t'\"\\<!-- \u00a0"), st.characters())))
def test_any_text_is_read_or_refused(text: str) -> None:
    for line in find_lines(text):
        try:
            assert isinstance(read_line(line, WORDS), Asked)
        except Usage as refusal:
            assert refusal.message


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20), max_size=6))
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    import shlex

    (line,) = find_lines("/train " + shlex.join(words)) or (Line("/train", shlex.join(words)),)
    assert read_line(line, WORDS).flags == tuple(words)


@pytest.mark.parametrize(
    ("heard", "head", "said_at", "as_said"),
    [
        (Heard("a", 10, "main"), "a", 11, True),
        (Heard("a", 10, "main"), "a", 10, True),  # opened in that second: there was no other head
        (Heard("a", 10, "main"), "a", 9, False),
        (Heard("b", 10, "main", head_moved=True), "b", 11, True),
        (Heard("b", 10, "main", head_moved=True), "b", 10, False),  # which came first, nobody can tell
        (Heard("b", 10, "main", head_moved=True), "b", 9, False),
        (Heard("a", 10, "main"), "b", 11, False),  # the news of the push are under way
    ],
)
def test_a_command_is_for_the_head_that_stood_when_it_was_said(
    heard: Heard, head: str, said_at: float, as_said: bool
) -> None:
    assert is_head_as_said(heard, head, said_at) is as_said


@pytest.mark.parametrize(
    ("heard", "base", "said_at", "as_said"),
    [
        (Heard("a", 10, "main"), "main", 10, True),
        (Heard("a", 10, "main", base_at=12), "main", 13, True),
        (Heard("a", 10, "main", base_at=12), "main", 12, False),
        (Heard("a", 10, "main", base_at=12), "main", 11, False),
        (Heard("a", 10, "main"), "release", 11, False),
    ],
)
def test_an_approval_is_for_the_branch_it_went_to_when_it_was_said(
    heard: Heard, base: str, said_at: float, as_said: bool
) -> None:
    assert is_base_as_said(heard, base, said_at) is as_said
