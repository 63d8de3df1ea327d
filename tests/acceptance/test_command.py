"""`dstack` from a shell: exit codes, variables, ad hoc runs, tags, secrets, users, pruning."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from installation import Repository, Site, bash_workflow
from machines import free_port, until

# The example that the language was designed from, word for word.
SEED = """
workflows:
  - name: prepare
    provider: python
    python_script: prepare.py
    artifacts: [data]
    resources:
      gpu: ${{ pgpu }}
  - name: train
    provider: python
    python_script: train.py
    artifacts: [checkpoint]
    depends-on: [prepare:latest]
    resources:
      gpu: ${{ tgpu }}
"""
SEED_VARIABLES = """
variables:
  prepare:
    pgpu: 0
  train:
    tgpu: 0
"""
PREPARE = "import os\nos.mkdir('data')\nopen('data/x', 'w').write('rows')\nprint('gpus', os.environ['PGPU'])\n"
TRAIN = "import os\nos.mkdir('checkpoint')\nopen('checkpoint/w', 'w').write(open('data/x').read() * 2)\n"


@pytest.fixture
def tree(shared: Site, repository: Callable[..., Repository]) -> Repository:
    return repository(shared)


def last_run(site: Site, tree: Repository) -> dict:
    return site.runs(repo=tree.name)[0]


def test_exit_codes_say_how_it_ended(shared: Site, tree: Repository) -> None:
    text = bash_workflow("good", "echo fine") + bash_workflow("bad", "echo broken; exit 9").partition("\n")[2]
    tree.commit({".dstack/workflows.yaml": text})
    done = shared.cli("run", "good", cwd=tree.path)
    assert done.stdout == "fine\n"
    failed = shared.cli("run", "bad", cwd=tree.path, code=3)
    assert failed.stdout.startswith("broken\n") and "exit code 9" in failed.stderr
    name = shared.cli("run", "bad", "-d", cwd=tree.path).stdout.strip()
    shared.cli("wait", name, code=3)
    shared.cli("runs", "no-such-1", code=5)
    shared.cli("wait", "brave-otter-99", code=5)
    shared.cli("runs", code=4, DSTACK_TOKEN="dst_wrong")
    shared.cli("runs", code=6, DSTACK_SERVER=f"http://127.0.0.1:{free_port()}")
    shared.cli("run", "god", cwd=tree.path, code=2)
    shared.cli("no-such-command", code=2)


def test_waiting_has_a_limit(shared: Site, tree: Repository) -> None:
    tree.commit({".dstack/workflows.yaml": bash_workflow("long", "sleep 60", "stop-grace: 1s")})
    name = shared.cli("run", "long", "-d", cwd=tree.path).stdout.strip()
    shared.cli("wait", name, "--timeout", "0.3", code=124)
    shared.cli("stop", name)
    shared.cli("wait", name, code=3)
    assert shared.run(name)["reason"] == "canceled_by"


def test_the_seed_example_word_for_word(shared: Site, tree: Repository) -> None:
    tree.commit(
        {
            ".dstack/workflows.yaml": SEED, ".dstack/variables.yaml": SEED_VARIABLES,
            "prepare.py": PREPARE, "train.py": TRAIN,
        }
    )  # fmt: skip
    assert "--pgpu" in shared.cli("run", "prepare", "--help", cwd=tree.path).stdout
    missing = shared.cli("run", "train", cwd=tree.path, code=3)
    assert "dstack run prepare" in missing.stderr and "dstack tag" in missing.stderr
    assert last_run(shared, tree)["reason"] == "no_such_tag"

    queued = shared.cli("run", "prepare", "--pgpu", "4", "-d", cwd=tree.path).stdout.strip()
    reason = until(lambda: shared.run(queued)["reason"], 10, "it says what it waits for")
    assert shared.run(queued)["state"] == "queued"
    assert reason == "needs 4 GPUs; the largest runner has none; to run without: dstack run prepare --pgpu 0"
    shared.cli("stop", queued)
    assert shared.wait(queued)["state"] == "stopped"

    done = shared.cli("run", "prepare", "--pgpu", "0", cwd=tree.path)
    assert "gpus 0\n" in done.stdout
    prepared = last_run(shared, tree)
    assert prepared["variables"] == {"pgpu": "0"}
    shared.cli("tag", prepared["name"], "latest")
    shared.cli("run", "train", cwd=tree.path)
    assert last_run(shared, tree)["jobs"][0]["artifacts"][0]["bytes"] == 8


def test_the_working_tree_is_shipped_as_it_is(shared: Site, tree: Repository) -> None:
    before = tree.commit({".dstack/workflows.yaml": bash_workflow("show", "cat a b; ls"), "a": "old\n", "gone": ""})
    tree.write({"a": "changed\n", "b": "untracked\n", ".gitignore": "secret\n", "secret": "x"})
    (tree.path / "gone").unlink()
    status = tree.git("status", "--porcelain")
    done = shared.cli("run", "show", cwd=tree.path)
    assert [line for line in done.stdout.splitlines() if not line.startswith("dstack:")] == [
        "changed",
        "untracked",
        "a",
        "b",
    ]
    assert (tree.git("status", "--porcelain"), tree.git("rev-parse", "HEAD")) == (status, before)
    assert tree.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    run = last_run(shared, tree)
    assert (run["sha"] != before, run["trigger"]) == (True, "manual")


def test_a_provider_runs_without_an_entry(shared: Site, tree: Repository) -> None:
    script = (
        "import os, sys\nprint(sys.argv[1:], os.environ['K'])\nos.mkdir('model'); open('model/w', 'w').write('1')\n"
    )
    tree.commit({"train.py": script})
    done = shared.cli(
        "run", "python", "-a", "model", "-e", "K=V W", "train.py", "--epochs", "3", "@/etc/passwd", cwd=tree.path
    )
    assert "['--epochs', '3', '@/etc/passwd'] V W\n" in done.stdout
    assert last_run(shared, tree)["jobs"][0]["artifacts"][0]["path"] == "model"
    assert shared.cli("run", "bash", "echo $((6 * 7))", cwd=tree.path).stdout == "42\n"


def test_tags_are_moved_and_removed_by_hand(shared: Site, tree: Repository) -> None:
    names = [tree.push_workflow(f"echo {n}", message=str(n)) for n in range(2)]
    for name in names:
        shared.wait(name)
        shared.cli("tag", name, "good")
    assert [(tag["tag"], tag["run"]) for tag in shared.get(f"/tags?repo={tree.name}")] == [("job:good", names[1])]
    assert [shared.run(name)["tags"] for name in names] == [[], ["good"]]
    shared.cli("untag", "job:good", cwd=tree.path)
    assert shared.get(f"/tags?repo={tree.name}") == []
    bad = tree.push_workflow("false")
    shared.wait(bad)
    shared.cli("tag", bad, "good", code=1)


CANARY = "canary-4f1e-correct-horse-battery"


def test_a_secret_reaches_only_jobs_that_name_it_and_stays_out_of_everything_stored(
    shared: Site, tree: Repository
) -> None:
    tree.push_workflow("true")
    done = subprocess.run(
        [*_dstack(), "secrets", "set", "KEY"],
        cwd=tree.path,
        env=shared.env,
        input=CANARY,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert [secret["name"] for secret in shared.cli_json("secrets", cwd=tree.path)] == ["KEY"]
    show = f'test "$KEY" = {CANARY[:10]}"{CANARY[10:]}" && echo known\necho "k=$KEY"; echo "$KEY" | base64; env'
    show += "\nfor c in $(echo $KEY | fold -w1); do printf $c; sleep 0.01; done; echo"
    named = tree.push_workflow(show, "secrets: [KEY]")
    assert shared.wait(named)["state"] == "succeeded", shared.log(named)
    log = shared.log(named).decode()
    assert "known\nk=***\n" in log and CANARY not in log
    plain = tree.push_workflow('echo "[$KEY]"')
    shared.wait(plain)
    assert shared.log(plain) == b"[]\n"
    unset = tree.push_workflow("true", "secrets: [NOT_SET]")
    assert (shared.wait(unset)["reason"], "dstack secrets set NOT_SET" in shared.run(unset)["jobs"][0]["message"]) == (
        "config", True,
    )  # fmt: skip
    found = [path for path in shared.server.data.rglob("*") if path.is_file() and _holds(path.read_bytes())]
    assert found == []
    assert not _holds(shared.said(10**9).encode())


def _holds(data: bytes) -> bool:
    import base64

    shifted = [base64.b64encode(b"x" * n + CANARY.encode())[8:-8] for n in range(3)]
    return any(form in data for form in (CANARY.encode(), CANARY.encode().hex().encode(), *shifted))


def _dstack() -> list[str]:
    import sys

    return [sys.executable, "-m", "dstack.cli.main"]


def test_members_work_and_admins_manage(shared: Site, tree: Repository) -> None:
    tree.push_workflow("true")
    member = json.loads(shared.cli("users", "add", "ann", "--json").stdout)
    assert (member["role"], member["token"][:4]) == ("member", "dst_")
    as_ann = {"DSTACK_TOKEN": member["token"]}
    shared.cli("runs", **as_ann)
    shared.cli("run", "job", cwd=tree.path, **as_ann)
    shared.cli("users", code=4, **as_ann)
    shared.cli("users", "add", "eve", code=4, **as_ann)
    shared.cli("prune", "--yes", code=4, **as_ann)
    new = tree.site.clone_url("local/anns-own").replace("dst_acceptance-admin-token", member["token"])
    tree.git("push", "-q", new, "HEAD", code=128)
    assert "local/anns-own" not in [repo["name"] for repo in shared.get("/repos")]
    shared.cli("users", "remove", "ann")
    shared.cli("runs", code=4, **as_ann)


def test_pruning_counts_first_and_removes_what_nothing_needs(shared: Site, tree: Repository) -> None:
    commands = "mkdir out; echo {} > out/x"
    names = [tree.push_workflow(commands.format(n), "artifacts: [out]", message=str(n)) for n in range(3)]
    for name in names:
        shared.wait(name)
    shared.cli("tag", names[0], "kept")
    # Others' runs on this server are as old as ours: only a run that is backdated goes.
    old = "UPDATE runs SET finished_at = finished_at - 8640000, created_at = created_at - 8640000 WHERE name IN (?, ?)"
    shared.ledger.rows(old, names[0], names[1])
    counted = shared.cli_json("prune", "--days", "90")
    assert (counted["runs"], counted["artifacts"], counted["dry_run"]) == (1, 1, True)
    assert shared.run(names[1])["state"] == "succeeded"
    assert shared.cli_json("prune", "--days", "90", "--yes")["runs"] == 1
    shared.cli("runs", names[1], code=5)
    assert shared.run(names[0])["tags"] == ["kept"]
    place = tree.path / "fetched"
    shared.cli("artifacts", names[0], "--download", str(place), cwd=tree.path)
    assert (place / "out/x").read_text() == "0\n"
