"""`notify:` names a secret that holds an address, or writes the address out, which lint remarks upon."""

from __future__ import annotations

import pytest

from dstack.language import read_project
from dstack.language.workflow import Notify

ENTRY = "workflows:\n  - name: a\n    provider: bash\n    commands: ls\n    notify: "


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("SLACK_URL", Notify(secret="SLACK_URL")),
        ("{secret: SLACK_URL}", Notify(secret="SLACK_URL")),
        ("{secret: HOOK, on: succeeded, format: json}", Notify(secret="HOOK", on=("succeeded",), format="json")),
        ("{secret: HOOK, on: [failed, recovered, succeeded]}", Notify("HOOK", on=("failed", "recovered", "succeeded"))),
        ("https://hooks.example.org/x?key=1", Notify(url="https://hooks.example.org/x?key=1")),
        ('{url: "https://hooks.example.org/x"}', Notify(url="https://hooks.example.org/x")),
    ],
)
def test_what_can_be_written(written: str, meant: Notify) -> None:
    project = read_project({".dstack/workflows.yaml": f"{ENTRY}{written}\n".encode()})
    assert project.problems == ()
    assert project.workflows["a"].notify == meant
    assert any("can read the address" in warning.message for warning in project.warnings) == bool(meant.url)


@pytest.mark.parametrize(
    "written",
    [
        "{}", "{on: failed}", "{secret: A, url: 'https://x.example'}", "http://hooks.example.org", "file:///etc/passwd",
        "https://", "https://user:pw@x.example", "a b", "{secret: A, on: sometimes}", "{secret: A, format: xml}",
        "[A, B]", "DSTACK_X", "'https://x.example/\\t'", "${{ url }}", "{secrets: A}", "",
    ],
)  # fmt: skip
def test_what_cannot(written: str) -> None:
    project = read_project({".dstack/workflows.yaml": f"{ENTRY}{written}\n".encode()})
    assert project.problems and {problem.line for problem in project.problems} == {5}
