"""Tracebacks in logs, and the lines of the commit they point to."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dstack.server.report.annotations import annotations_of_log, annotations_of_problems, path_in_repo
from dstack.server.report.tracebacks import Frame, tracebacks_in

ATTEMPT = "0123456789abcdef0123"
WORK = f"/var/lib/dstack/attempts/{ATTEMPT}/work"
LOG = f"""epoch 1
Traceback (most recent call last):
  File "{WORK}/train.py", line 12, in <module>
    main()
  File "{WORK}/src/model.py", line 40, in main
    return table[name]
           ~~~~~^^^^^^
  File "/opt/venv/lib/python3.11/site-packages/torch/nn/functional.py", line 3, in lookup
    raise KeyError(name)
KeyError: 'resnet'
train.py: exit code 1
"""


def test_a_traceback_is_read_from_the_outside_in() -> None:
    (found,) = tracebacks_in(LOG)
    assert found.error == "KeyError: 'resnet'"
    assert found.frames[0] == Frame(f"{WORK}/train.py", 12, "<module>")
    assert [frame.line for frame in found.frames] == [12, 40, 3]


def test_the_innermost_line_of_our_own_is_marked() -> None:
    (remark,) = annotations_of_log(LOG, [ATTEMPT])
    assert (remark.path, remark.line, remark.level) == ("src/model.py", 40, "failure")
    assert remark.title == "KeyError: 'resnet'"
    assert remark.message.endswith("KeyError: 'resnet'") and "site-packages/torch" in remark.message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('  File "train.py", line 3\n    if x\n        ^\nSyntaxError: expected \':\'\n', ("train.py", 3)),
        ('Traceback (most recent call last):\n  File "./a.py", line 1, in <module>\nValueError\n', ("a.py", 1)),
        ('[rank0]: Traceback (most recent call last):\n[rank0]:   File "a.py", line 9, in f\n[rank0]: E: x\n',
         ("a.py", 9)),
        ('(Worker pid=7) Traceback (most recent call last):\n(Worker pid=7)   File "a.py", line 9, in f\n'
         "(Worker pid=7) torch.cuda.OutOfMemoryError: CUDA out of memory.\n", ("a.py", 9)),
        ('\x1b[31mTraceback (most recent call last):\x1b[0m\n  File "a.py", line 2, in f\n\x1b[1mKeyError: 1\x1b[0m\n',
         ("a.py", 2)),
    ],
)  # fmt: skip
def test_tracebacks_of_many_kinds(text: str, place: tuple[str, int]) -> None:
    (remark,) = annotations_of_log(text, [ATTEMPT])
    assert (remark.path, remark.line) == place


def test_one_error_of_many_workers_is_marked_once_and_causes_each() -> None:
    assert len(annotations_of_log(LOG * 8, [ATTEMPT])) == 1
    cause = LOG + "\nDuring handling of the above exception, another exception occurred:\n\n" + LOG.replace("40", "77")
    assert [remark.line for remark in annotations_of_log(cause, [ATTEMPT])] == [40, 77]


@pytest.mark.parametrize(
    "text",
    ["", "no error here", "Traceback (most recent call last):\n", '  File "a.py", line 1, in f\n',
     'Traceback (most recent call last):\n  File "<string>", line 1, in <module>\nKeyError: 1\n',
     'Traceback (most recent call last):\n  File "/etc/passwd", line 1, in f\nKeyError: 1\n',
     'Traceback (most recent call last):\n  File "../../x.py", line 1, in f\nKeyError: 1\n'],
)  # fmt: skip
def test_nothing_is_marked_that_is_not_of_the_commit(text: str) -> None:
    assert annotations_of_log(text, [ATTEMPT]) == ()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"{WORK}/a/b.py", "a/b.py"), (f"/x/{'f' * 20}/work/a.py", None), (f"{WORK}/.venv/lib/x.py", None),
        (f"{WORK}/../secret.py", None), ("/usr/lib/python3.11/runpy.py", None), ("pkg/a.py", "pkg/a.py"), ("", None),
    ],
)  # fmt: skip
def test_paths_of_an_attempt_become_paths_of_the_repository(path: str, found: str | None) -> None:
    assert path_in_repo(path, [ATTEMPT]) == found


def test_problems_of_our_files_stand_on_their_lines() -> None:
    text = 'config error: .dstack/workflows.yaml:3:5: unknown key "scrpt"\n.dstack/variables.yaml:9:1: no name\nelse'
    first, second = annotations_of_problems(text)
    assert (first.path, first.line, first.message) == (".dstack/workflows.yaml", 3, 'unknown key "scrpt"')
    assert (second.path, second.line) == (".dstack/variables.yaml", 9)


@given(st.text(st.sampled_from('Traceback (most recent call last):\n  File "a.py", line 1\nE: x[]@'), max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert len(annotations_of_log(text, [ATTEMPT])) <= 50


def test_a_long_hostile_log_is_read_quickly() -> None:
    began = time.monotonic()
    annotations_of_log(('  File "' + "a" * 1500 + "\n") * 200 + "[" * 100_000 + ("(a=" * 1000 + "\n") * 50, [ATTEMPT])
    annotations_of_problems((".yaml:1" * 300 + "\n") * 100)
    assert time.monotonic() - began < 2
