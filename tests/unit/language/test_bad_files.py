"""Files that are wrong: each is answered with its place, what was expected, and what was probably meant."""

from __future__ import annotations

import time

import pytest

from dstack.language import FILES, lint_text, read_project

WORKFLOWS, VARIABLES, PROVIDERS = FILES
ENTRY = "workflows:\n  - name: a\n    provider: bash\n    commands: ls\n"


def problems_of(workflows: str | bytes, variables: str = "", providers: str = "") -> list[str]:
    files = {WORKFLOWS: workflows if isinstance(workflows, bytes) else workflows.encode()}
    files |= {VARIABLES: variables.encode()} if variables else {}
    files |= {PROVIDERS: providers.encode()} if providers else {}
    return [str(problem) for problem in read_project(files).problems]


def with_key(text: str) -> str:
    return ENTRY + f"    {text}\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: &a [1]\nb: *a\n", 2, "aliases are not allowed"),
        ("a: &a [*a]\n", 1, "aliases are not allowed"),
        ("a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]\n", 2, "aliases are not allowed"),
        ("workflows: !!python/object:os.system [ls]\n", 1, "tags are not allowed"),
        ("workflows: !mine x\n", 1, "tags are not allowed"),
        ("a: " + "[" * 1000 + "]" * 1000, 1, "nested too deep"),
        ("a: " + "[" * 1000, 1, "nested too deep"),
        ("a: " + "{b: " * 100, 1, "nested too deep"),
        ("a: [" + "1," * 10_001 + "]", 1, "too large"),
        ("workflows: []\n---\nworkflows: []\n", 2, "second document"),
        ("- a\n- b\n", 1, "found a list; expected a mapping"),
        ("just text", 1, 'found "just text"'),
        ("workflows:\n\t- name: a\n", 2, "spaces, not tabs"),
        ("? [a, b]\n: c\n", 1, "a key is not text"),
        ("workflows:\n  - {name: a, provider: bash, commands: ls, resources: {gpu: ${{ n }}}}\n", 2, 'quote it: "${{'),
        ("workflows:\n  - name: a\n    paths: [**/x]\n", 3, "quote the value"),
        ("workflows:\n  - name: a\n    gate: >= 3\n", 3, "quote the value"),
        ("workflows:\n  - name: @x\n", 2, "quote the value"),
        ("workflows:\n  - name: a\n    help: a: b\n", 3, "quote the value"),
        ("workflows: 'a\x01b'\n", 1, "U+0001"),
        ("workflows: \x00", 1, "U+0000"),
        ('workflows: "\\ud800"', 1, "not YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_place(text: str, line: int, words: str) -> None:
    (first, *_) = problems_of(text)
    assert first.startswith(f"{WORKFLOWS}:{line}:"), first
    assert words in first


def test_a_file_over_a_megabyte_is_refused_unread() -> None:
    (problem,) = problems_of(ENTRY + "#" * 1_000_000)
    assert "too large" in problem and "1,000,000" in problem


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~"])
def test_an_empty_file_says_what_to_type(text: str) -> None:
    (problem,) = problems_of(text)
    assert "the file is empty" in problem and "dstack init" in problem


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        (ENTRY.encode("utf-16"), "1:1", "UTF-16"),
        (ENTRY.encode("utf-16-le"), "1:1", "UTF-16"),
        ((ENTRY + "    help: é\n").encode("latin-1"), "5:11", "byte 0xe9"),
    ],
)
def test_other_encodings_are_named(data: bytes, place: str, words: str) -> None:
    (problem,) = problems_of(data)
    assert problem.startswith(f"{WORKFLOWS}:{place}: ") and words in problem and "save it as UTF-8" in problem


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + ENTRY.encode(),
        ENTRY.replace("\n", "\r\n").encode(),
        (ENTRY + "    help: 数据 😀 é\n").encode(),
        ENTRY.encode() + b"    on: push\n",
        b"%YAML 1.2\n---\n" + ENTRY.encode(),
    ],
)
def test_a_byte_order_mark_windows_lines_and_unicode_are_fine(data: bytes) -> None:
    assert problems_of(data) == []


def test_a_key_given_twice_is_refused_naming_both_lines() -> None:
    (problem,) = problems_of(ENTRY + "    commands: pwd\n")
    assert problem == f'{WORKFLOWS}:5:5: "commands" stands twice: in lines 4 and 5; expected each key once'


def test_two_spellings_of_one_key_are_one_key() -> None:
    (problem,) = problems_of(ENTRY + "    stop-grace: 1m\n    stop_grace: 2m\n")
    assert '"stop_grace" and "stop-grace" (line 5) are one key' in problem
    (problem,) = problems_of(ENTRY + "    env: {A: b}\n    environment: {A: b}\n")
    assert '"environment" and "env" (line 5) are one key' in problem


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    (problem,) = problems_of(with_key("artefacts: [x]"))
    assert problem == f'{WORKFLOWS}:5:5: a: unknown key "artefacts"; did you mean "artifacts"?'


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("needs: [b]", "depends-on"),
        ("runs-on: gpu", "resources"),
        ("uses: actions/checkout", "provider: bash"),
        ("steps: []", "commands"),
        ("run: ls", "commands"),
        ("if: true", "on:"),
        ("timeout-minutes: 3", "timeout: 10m"),
        ("<<: {a: b}", "merge keys"),
        ("gpu: 1", "under resources:"),
        ("memory: 16GB", "under resources:"),
        ("args: x", "an option of provider: python"),
        ("variables: {lr: 1}", ".dstack/variables.yaml"),
    ],
)
def test_keys_people_bring_from_elsewhere_get_a_hint(key: str, hint: str) -> None:
    (problem,) = problems_of(with_key(key))
    assert "unknown key" in problem and hint in problem


def test_a_file_of_another_tool_gets_a_hint_at_its_first_key() -> None:
    first, *_ = problems_of("jobs:\n  a:\n    runs-on: x\n")
    assert "write workflows:" in first


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("timeout: 10", 'expected a time such as 90s, 10m, 1h30m or 2d, at most 366d; write the unit: "10s"'),
        ("timeout: 1:30", 'found "1:30"'),
        ("timeout: -1s", 'found "-1s"'),
        ("timeout: 0s", 'found "0s"'),
        ("timeout: 1" + "0" * 30 + "d", "at most 366d"),
        ("timeout: 400d", "at most 366d"),
        ("timeout:", "found nothing"),
        ("timeout: null", "found nothing"),
        ("timeout: [1s]", "found a list"),
        ("timeout: .nan", 'found ".nan"'),
        ("resources: {gpu: -1}", "a number of GPUs from 0 to 1024"),
        ("resources: {gpu: 1" + "0" * 30 + "}", "from 0 to 1024"),
        ("resources: {gpu: 1.5}", "from 0 to 1024"),
        ("resources: {gpu: two}", 'found "two"'),
        ("resources: {gpu: {count: two}}", "a whole number from 0 to 1024"),
        ("resources: {gpu: {cuont: 2}}", 'did you mean "count"'),
        ("resources: {memory: 16}", 'write the unit: "16GB"'),
        ("resources: {memory: 0GB}", "a size such as 16GB"),
        ("resources: {memory: 1" + "0" * 30 + "GB}", "a size such as 16GB"),
        ("resources: {cpu: 0}", "from 1 to"),
        ("resources: 4", "expected what the machine must have"),
        ("retry: 11", "from 0 to 10"),
        ("retry: {on: [sometimes]}", "a reason (runner_lost"),
        ("retry: {limit: x}", "from 0 to 10"),
        ("artifacts: {path: x, when: allways}", 'did you mean "always"?'),
        ("artifacts: {when: always}", '"path" is missing'),
        ("artifacts:", "found nothing"),
        ("artifacts: [[a]]", "artifacts[0]: found a list"),
        ("tag: a/b", "expected a name"),
        ("tag: -x", "expected a name"),
        ("env: {A: [x]}", "env.A: found a list"),
        ("env: [A=b]", "env: found a list"),
        ("concurrency: {cancel-running: yes}", "write true"),
        ("concurrency: {group: x, cancel-running: maybe}", "expected true or false"),
        ("metrics: {log: {a: 'no group'}}", "put the number in brackets"),
        ("metrics: {log: {a: '('}}", "it is no regular expression"),
        ("metrics: {better: more}", "one of higher, lower"),
        ("help: [x]", "found a list"),
        ("gate: accuracy = 1", "compare with =="),
        ("gate: accuracy >=", "ends too early"),
        ("gate: a && b", "write `and`, `or`"),
        ("gate: '" + "(" * 60 + "'", "nested too deep"),
        ("gate: (a > 1", "ends too early"),
        ("gate: a > 1)", 'cannot read "a > 1)" from ")" on'),
        ("gate: '" + "not " * 60 + "a > 1'", "nested too deep"),
        ("version: 2", 'unknown key "version"'),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_what_was_expected(key: str, words: str) -> None:
    found = problems_of(with_key(key))
    assert any(words in problem and problem.startswith(f"{WORKFLOWS}:5:") for problem in found), found


@pytest.mark.parametrize("path", ["/etc/**", "../..", "a/../../b", "~", "~/x", "C:x", "a\\b", ".git/config", ".git"])
@pytest.mark.parametrize("key", ["artifacts: ['{}']", "report: '{}'", "metrics: '{}'", "working-dir: '{}'"])
def test_paths_that_leave_the_repository_are_refused(path: str, key: str) -> None:
    (problem,) = problems_of(with_key(key.format(path)))
    assert "inside the repository" in problem or "metrics file" in problem


@pytest.mark.parametrize("path", ["/abs", "~", "~/", "~/../x", "../x", "~root/x"])
def test_cache_folders_stay_below_home_or_checkout(path: str) -> None:
    assert problems_of(with_key(f"cache: ['{path}']"))


@pytest.mark.parametrize(
    "key",
    ["'A=B'", "LD_PRELOAD", "ld_preload", "GIT_SSH_COMMAND", "DSTACK_TOKEN", "PATH", "path", "'A\\nB'", '"A\\0"', "1A",
     "'A-B'",
     "''", "BASH_ENV", "CUDA_VISIBLE_DEVICES"],
)  # fmt: skip
def test_environment_keys_that_are_reserved_or_no_names_are_refused(key: str) -> None:
    assert problems_of(with_key("env: {" + key + ": x}"))
    assert problems_of(with_key("secrets: [" + key + "]"))


def test_control_characters_in_values_are_refused() -> None:
    assert problems_of(with_key('env: {A: "x\\0y"}'))
    assert problems_of(with_key('report: "a\\nb"'))
    assert problems_of(with_key('artifacts: "a\\u001b[31m"'))


@pytest.mark.parametrize(
    ("on", "words"),
    [
        ("on: pushed", 'did you mean "push"?'),
        ("on: schedule", "needs to know which"),
        ("on: [push, manual]", "stands alone"),
        ("on: {psuh: {}}", 'did you mean "push"?'),
        ("on: {push: main}", "expected patterns"),
        ("on: {push: {branches: ['[']}}", "close the ["),
        ("on: {push: {branches: ['+x']}}", "put \\ before +"),
        ("on: {workflow_dispatch: {}}", "every workflow can be started by hand"),
        ("on: {schedule: '* * * * * *'}", "found 6 fields"),
        ("on: {schedule: '61 * * * *'}", 'found "61" for the minute'),
        ("on: {schedule: '0 0 30 2 *'}", "is never due"),
        ("on: {schedule: '0 0 31 4,6 *'}", "is never due"),
        ("on: {schedule: '* * * * *'}", "more often than every 5 minutes"),
        ("on: {schedule: '*/4 * * * *'}", "more often than every 5 minutes"),
        ("on: {schedule: '0,58 * * * *'}", "more often than every 5 minutes"),
        ("on: {schedule: '0 0 * * 8'}", "for the weekday"),
        ("on: {schedule: '0 0 * foo *'}", "for the month"),
        ("on: {schedule: '*/0 * * * *'}", "for the minute"),
        ("on: {schedule: {cron: '0 0 * * *', timezone: Mars/Olympus}}", "a time zone"),
        ("on: {schedule: {cron: '0 0 * * *', timezone: ../../etc/passwd}}", "a time zone"),
        ("on: {schedule: {cron: '0 0 * * *', missed: all}}", "one of run-latest, skip"),
        ("on: {tag-moved: prepare}", "prepare:latest"),
        ("on: {comment: train}", "/train"),
        ("on: {comment: /train --lr}", "a command such as /train"),
        ("on: {comment: /dstack}", "/dstack begins this server's own commands"),
        ("on: {event: a b}", "expected a name"),
        ("on:", "found nothing"),
    ],
)
def test_triggers_that_mean_nothing_are_refused(on: str, words: str) -> None:
    found = problems_of(with_key(on))
    assert any(words in problem for problem in found), found


def entries(*needs: tuple[str, str]) -> str:
    lines = [f"  - {{name: {n}, provider: bash, commands: ls, depends-on: [{d}]}}\n" for n, d in needs]
    return "workflows:\n" + "".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (entries(("a", "a")), "a -> a"),
        (entries(("a", "b"), ("b", "c"), ("c", "a")), "a -> b -> c -> a"),
        (entries(("x", "a"), ("a", "b"), ("b", "a")), "a -> b -> a"),
        (entries(("a", "prepare")), 'there is no workflow "prepare"'),
        (entries(("prepare", ""), ("a", "prepar:latest")), 'did you mean "prepare"?'),
        (entries(("a", "o/r/b")), 'name a tag: "o/r/b:latest"'),
        (entries(("a", "b?"), ("b", "")), "only a tag can be optional"),
        (entries(("a", "'b:'"), ("b", "")), "a workflow to run first"),
        (entries(("a", "''")), "a workflow to run first"),
        (entries(("a", ""), ("a", "")), 'workflow "a" stands twice: in lines 2 and 3'),
        (entries(("global", "")), 'cannot be called "global": variables use the word'),
        (entries(("config", "")), 'cannot be called "config": the status dstack/config'),
        ("workflows: {a: {provider: bash}}", "write `- name: ...`"),
        ("workflows: []\nversion: 2\n", 'found "2"; expected 1'),
        ("name: x\n", '"workflows" is missing'),
        ("workflows: [{provider: bash, commands: ls}]", 'workflows[0]: "name" is missing'),
        ("workflows: [{name: a}]", '"provider" is missing'),
        ("workflows: [{name: a, provider: bash}]", '"commands" is missing'),
        ("workflows: [{name: a, provider: python}]", "write script: train.py"),
        ("workflows: [{name: a, provider: python, script: a.py, module: a}]", "exclude each other"),
        ("workflows: [{name: a, provider: pyhton, script: a.py}]", 'did you mean "python"?'),
        ("workflows: [{name: a, provider: {repo: o/r, name: x}}]", '"ref" is missing'),
        ("workflows: [{name: a, provider: {repo: 'https://x/y.git', ref: v1, name: x}}]", "owner/name"),
        ("workflows: [{name: a, provider: {repo: o/r, ref: --upload-pack=x, name: x}}]", "a branch, tag or commit"),
        ("workflows: [{name: a, provider: {repo: o/r, ref: a..b, name: x}}]", "a branch, tag or commit"),
        ("workflows: [{name: a, provider: python, script: a.py, args: 'a \"b'}]", "cannot be split"),
        ("workflows: [{name: a, provider: python, script: -x}]", 'put "./" before'),
        ("workflows: [text]", "expected a workflow"),
    ],
)
def test_entries_that_do_not_fit_together_are_refused(text: str, words: str) -> None:
    found = problems_of(text)
    assert any(words in problem for problem in found), found


def test_a_tag_of_itself_is_no_loop() -> None:
    assert problems_of(entries(("a", "'a:latest?'"))) == []


def test_a_thousand_workflows_are_read_and_more_are_refused() -> None:
    head = "workflows:\n"
    entry = "  - {{name: w{0}, provider: bash, commands: x}}\n"
    assert problems_of(head + "".join(entry.format(n) for n in range(1000))) == []
    (problem,) = problems_of(head + "".join(entry.format(n) for n in range(1001)))
    assert "found 1,001 workflows; expected at most 1,000" in problem


def test_a_dense_graph_is_checked_in_linear_time() -> None:
    layers = [(f"w{n}", ", ".join(f"w{m}" for m in range(max(0, n - 8), n))) for n in range(300)]
    start = time.process_time()
    assert problems_of(entries(*layers)) == []
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ("variables: {global: {lr: [1]}}", "global.lr: found a list"),
        ("variables: {global: {lr: }}", "global.lr: found nothing"),
        ("variables: {lr: 1}", "put it under a section: global: {lr: ...}"),
        ("variables: {global: {batch-size: 1, batch_size: 2}}", "both reach jobs as BATCH_SIZE"),
        ("variables: {global: {path: x}}", "reserved environment variable"),
        ("variables: {global: {git-dir: x}}", "reserved environment variable"),
        ("variables: {global: {sha: x}}", "a name that expressions know already"),
        ("variables: {global: {'a b': x}}", "a name of letters"),
        ("variables: {tarin: {lr: 1}}", 'did you mean "train"?'),
        ("variables: {global: {a: '${{ b }}', b: '${{ a }}'}}", "defined by each other: a -> b -> a"),
        ("variables: {global: {a: '${{ a }}'}}", "defined by each other: a -> a"),
        ("variables: {global: {lr: '${{ l }}'}}", 'there is no variable "l"'),
        ("variables: {global: {lr: '${{ attempt }}'}}", "not known yet"),
        ("varables: {}", 'did you mean "variables"?'),
        ("global: {}", "put it under variables:"),
        ("[]", "expected a mapping"),
    ],
)
def test_variables_that_cannot_be_used_are_refused(variables: str, words: str) -> None:
    workflows = ENTRY.replace("name: a", "name: train")
    found = problems_of(workflows, variables)
    assert any(words in problem and problem.startswith(f"{VARIABLES}:") for problem in found), found


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("env: {A: '${{ lrr }}'}", 'there is no variable "lrr"; expected one of attempt, branch, lr, name, repo'),
        ("env: {A: '${{ lrr }}'}", 'did you mean "lr"?'),
        ("env: {A: '${{ quux }}'}", "declare it in .dstack/variables.yaml"),
        ("env: {A: '${{ lr'}", "close it with }}"),
        ("env: {A: '${{ lr + 1 }}'}", "cannot read"),
        ("env: {A: '${{ }}'}", "cannot read"),
        ("report: '${{ attempt }}.md'", "known only when a machine takes the job"),
        ("tag: '${{ lr }}'", "cannot be used here"),
        ("resources: {gpu: '${{ name }}'}", 'found "${{ name }}", filled in "four"'),
        ("resources: {memory: '${{ lr }}GB'}", 'filled in "xGB"'),
        ("artifacts: ['${{ up }}/x']", "it must stay inside the repository"),
        ("timeout: ${{ lr }}", 'filled in "x"'),
    ],
)
def test_expressions_are_checked_with_the_defaults_filled_in(key: str, words: str) -> None:
    found = problems_of(with_key(key), "variables: {global: {lr: x, name: four, up: ..}}")
    assert any(words in problem for problem in found), found


def test_an_expression_in_a_literal_here_document_is_refused() -> None:
    text = (
        "workflows:\n  - name: a\n    provider: bash\n    commands: |\n      cat <<'END'\n      ${{ sha }}\n      END\n"
    )
    (problem,) = problems_of(text)
    assert "taken literally" in problem and "<<END without quotes" in problem


@pytest.mark.parametrize(
    ("providers", "words"),
    [
        ("providers: [{name: python, commands: x}]", '"python" is built in'),
        ("providers: [{name: x}]", "either commands or a module"),
        ("providers: [{name: x, module: a, commands: b}]", "either commands or a module"),
        ("providers: [{name: x, module: 'a b'}]", "a module, or module:Class"),
        ("providers: [{name: x, module: a}, {name: x, module: b}]", "stands twice"),
        ("providers: [{name: x, module: a, requirements: /etc/x}]", "inside the repository"),
        ("provider: []", 'did you mean "providers"?'),
    ],
)
def test_provider_definitions_are_checked(providers: str, words: str) -> None:
    found = problems_of(ENTRY, providers=providers)
    assert any(words in problem and problem.startswith(f"{PROVIDERS}:1:") for problem in found), found


def test_all_problems_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = (
        "workflows:\n  - name: a\n    provider: bash\n    comands: ls\n    timeout: soon\n"
        "  - name: b\n    provider: python\n    script: /x\n    resources: {gpu: many}\n"
    )
    found = problems_of(text, "variables: {c: {x: 1}}")
    places = [problem.split(":")[1:2] for problem in found if problem.startswith(WORKFLOWS)]
    assert len(found) >= 6
    assert [int(line) for (line,) in places] == sorted(int(line) for (line,) in places)


def test_one_bad_workflow_leaves_the_others_readable() -> None:
    project = read_project({WORKFLOWS: (ENTRY + "  - {name: b, provider: bash}\n").encode()})
    assert list(project.workflows) == ["a"] and len(project.problems) == 1 and not project.is_ok


def test_the_other_spelling_of_a_file_name_is_answered() -> None:
    problems, _ = lint_text({".dstack/workflows.yml": b"x"})
    assert (
        str(problems[0]) == ".dstack/workflows.yml: this file is not read; expected .dstack/workflows.yaml; rename it"
    )


def test_a_repository_without_the_files_is_a_project_of_nothing() -> None:
    project = read_project({})
    assert project.is_ok and project.workflows == {}
