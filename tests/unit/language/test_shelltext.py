"""`${{ x }}` in shell text: what bash really does with it, for values that try to be code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dstack.language import FILES, Context, fill_attempt, read_project, resolve
from dstack.language.nodes import Place, Scalar
from dstack.language.reading import Reading
from dstack.language.shelltext import to_references
from dstack.providers import jobs_for
from dstack.wire.job import Job

EVIL = [
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "a  b *",
    "-n x",
    "$HOME",
    "\\",
    "}}",
    "é😀",
    "",
]


def run_bash(text: str, value: str, folder: Path) -> str:
    reading = Reading({"X": "x"}, {"X": value})
    shell = reading.shell(Scalar(text, Place("f")), "p")
    assert shell is not None and not reading.problems
    env = {"PATH": "/usr/bin:/bin", **reading.shell_env, "DSTACK_ATTEMPT": "3"}
    done = subprocess.run(["bash", "-e", "-c", shell], env=env, cwd=folder, capture_output=True, check=True)
    assert list(folder.iterdir()) == []
    return done.stdout.decode()


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("printf '%s|' ${{ x }}", "{}|"),
        ("printf '%s|' \"${{ x }}\"", "{}|"),
        ("printf '%s|' '${{ x }}'", "{}|"),
        ("printf '%s|' a${{x}}b", "a{}b|"),
        ("printf '%s|' \"a ${{ x }} b\" c", "a {} b|c|"),
        ("printf '%s|' 'a ${{ x }}  b'", "a {}  b|"),
        ("printf '%s|' \\'${{ x }}", "'{}|"),
        ("# don't\nprintf '%s|' ${{ x }} # ${{ x }}", "{}|"),
        ("printf '%s|' x#${{ x }}", "x#{}|"),
        ("cat <<END\n${{ x }}\n'${{ x }}'\nEND\nprintf '%s|' '${{ x }}'", "{0}\n'{0}'\n{0}|"),
        ("cat <<-END\n\t${{ x }}\n\tEND\nprintf '%s|' ${{ x }}", "{0}\n{0}|"),
        ("cat <<A; cat <<B\n${{ x }}\nA\n${{ x }}\nB\n", "{0}\n{0}\n"),
        ("cat <<'END'\nplain ' text\nEND\nprintf '%s|' ${{ x }}", "plain ' text\n{}|"),
        ("printf '%s|' ${{ attempt }}", "3|"),
    ],
)
def test_a_value_stays_one_word_wherever_it_stands(text: str, printed: str, value: str, tmp_path: Path) -> None:
    assert run_bash(text, value, tmp_path) == printed.format(value)


@settings(max_examples=60, deadline=None)
@given(value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_any_value_arrives_as_it_is(value: str) -> None:
    text = "printf '%s|%s|%s' ${{ x }} \"${{ x }}\" '${{ x }}'"
    reading = Reading({"X": "x"}, {"X": value})
    shell = reading.shell(Scalar(text, Place("f")), "p")
    done = subprocess.run(["bash", "-c", str(shell)], env=reading.shell_env, capture_output=True, check=True)
    assert done.stdout.decode() == f"{value}|{value}|{value}"


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from(list("ab'\"\\#<\n $(){}-EOF;")), max_size=60))
def test_no_shell_text_makes_the_walk_fail(text: str) -> None:
    assert to_references(text) == text or "${{" in text


def job_of(entry: str, variables: str, **given: str) -> Job:
    files = {FILES[0]: f"workflows:\n  - {entry}\n".encode(), FILES[1]: variables.encode()}
    project = read_project(files)
    assert not project.problems, project.problems
    (workflow,) = project.workflows.values()
    (job,) = jobs_for(resolve(workflow, given, Context("n-1", "o/r", "s", ";reboot", "push")))
    return job


def test_a_job_of_shell_text_carries_what_it_refers_to() -> None:
    job = job_of(
        "{name: a, provider: bash, commands: ['echo ${{ lr }} ${{ run.name }} ${{ branch }}']}",
        "variables: {a: {lr: 1}}",
    )
    assert job.commands[0].shell == 'echo "${DSTACK_VAR_LR}" "${DSTACK_RUN_NAME}" "${DSTACK_BRANCH}"'
    assert job.env == {"LR": "1", "DSTACK_VAR_LR": "1", "DSTACK_RUN_NAME": "n-1", "DSTACK_BRANCH": ";reboot"}


@pytest.mark.parametrize(
    ("args", "value", "argv"),
    [
        ("--lr ${{ lr }}", "1 2", ["--lr", "1 2"]),
        ("--lr=${{ lr }}", "'\"", ["--lr='\""]),
        ('"a ${{ lr }} b" c', "x", ["a x b", "c"]),
        ("'${{ lr }}' ''", "--evil", ["--evil", ""]),
        ("[--lr, '${{ lr }}', 3]", "a b", ["--lr", "a b", "3"]),
        ("--a ${{ lr }}${{ lr }}", "", ["--a", ""]),
    ],
)
def test_arguments_are_split_before_values_are_put_in(args: str, value: str, argv: list[str]) -> None:
    text = args if args.startswith("[") else "'" + args.replace("'", "''") + "'"
    job = job_of(f"{{name: a, provider: python, script: t.py, args: {text}}}", "variables: {a: {lr: 0}}", lr=value)
    assert list(job.commands[0].argv) == ["python", "t.py", *argv]


def test_the_attempt_is_filled_in_when_a_job_is_accepted() -> None:
    job = job_of(
        "{name: a, provider: python, script: t.py, args: '--try ${{ attempt }}', env: {N: 'n${{attempt}}'}}", ""
    )
    assert job.commands[0].argv[-1] == "${{ attempt }}"
    second = fill_attempt(job, 2)
    assert second.commands[0].argv == ("python", "t.py", "--try", "2")
    assert second.env == {"N": "n2", "DSTACK_ATTEMPT": "2"}
