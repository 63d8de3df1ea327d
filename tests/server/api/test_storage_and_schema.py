"""The data folder: full disks, pruning, schema and its changes, one server at a time."""

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from served_api import Api, Held, serve, sha256, unique, wait_for
from sqlalchemy import BigInteger, create_engine
from sqlalchemy.exc import OperationalError
from sqlmodel import SQLModel

from dstack.errors import Conflict
from dstack.server.bootstrap import start
from dstack.server.bus import QUEUE
from dstack.server.settings import Settings
from dstack.server.store.migrate import alembic_config, migrate

DAY = 86400
WORKFLOWS = """
workflows:
  - {name: train, provider: bash, commands: ["true"], on: push}
"""


# Full disk


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that thinks its disk is full; what stands there came before."""
    folder = tmp_path_factory.mktemp("full")
    with serve(folder) as before:
        copy = before.working_copy("local/mine")
        copy.commit({".dstack/workflows.yaml": WORKFLOWS})
        copy.push()
    with serve(folder, max_disk_percent=0.0001) as api:
        yield api


def test_a_full_disk_refuses_new_work_with_the_reason(full: Api) -> None:
    sha = full.ok("GET", "/api/v1/runs")["runs"][0]["sha"]
    name = full.ok("GET", "/api/v1/runs")["runs"][0]["name"]
    for path, body in (
        ("/api/v1/runs", {"repo": "local/mine", "sha": sha, "workflow": "train"}),
        (f"/api/v1/runs/{name}/restart", {}),
    ):
        answer = full.call("POST", path, json=body)
        problem = answer.json()
        assert (answer.status_code, problem["error"]) == (503, "unavailable")
        assert "disk" in problem["message"] and "DSTACK_MAX_DISK_PERCENT" in problem["hint"]
        assert int(answer.headers["retry-after"]) >= 1
    assert len(full.ok("GET", "/api/v1/runs")["runs"]) == 1


def test_a_full_disk_refuses_pushes_and_still_serves_clones(full: Api) -> None:
    copy = full.working_copy("local/mine")
    copy.git("pull", "-q", copy.address(), "main")
    copy.commit({"more": "1"})
    assert "503" in copy.push(fails=True)


def test_a_full_disk_offers_nothing_and_the_queue_says_why(full: Api) -> None:
    runner = full.runner()
    full.wiring.bus.publish([QUEUE])
    run = wait_for(lambda: next((r for r in full.ok("GET", "/api/v1/runs")["runs"] if "disk" in r["reason"]), None))
    assert run["state"] == "queued"
    assert runner.poll(0.2)["offers"] == []
    assert full.call("GET", "/healthz", None).status_code == 200


# Pruning


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Api]:
    with serve(tmp_path) as api:
        yield api


def ended(api: Api, files: dict[str, bytes], workflow: str = "train", state: str = "succeeded") -> Held:
    held = api.attempt(workflow=workflow)
    held.log(b"a line of " + held.run.encode() + b"\n")
    held.save("data", files)
    held.end(state, **({} if state == "succeeded" else {"reason": "exit_code", "exit_code": 1}))
    return held


def prune(api: Api, **body: Any) -> dict[str, Any]:
    return api.ok("POST", "/api/v1/prune", json=body)


def download(api: Api, run: str, path: str) -> bytes:
    (artifact,) = api.ok("GET", f"/api/v1/runs/{run}/artifacts")
    answer = api.call("GET", f"/api/v1/artifacts/{artifact['id']}/files/{path}")
    assert answer.status_code == 200
    return answer.content


def age_blobs(api: Api, seconds: float) -> None:
    """Blobs count as used by the time of their files."""
    for file in (f for f in (api.wiring.settings.data / "objects").rglob("*") if f.is_file()):
        at = file.stat().st_mtime - seconds
        os.utime(file, (at, at))


def stored(api: Api) -> set[str]:
    return {blob.digest for blob in api.wiring.objects.stored()}


def test_pruning_removes_what_nothing_refers_to_and_nothing_else(apart: Api) -> None:
    own, shared, large = os.urandom(1000), os.urandom(1000), os.urandom(400_000)
    gone = ended(apart, {"data/own": own, "data/shared": shared, "data/large": large})
    tagged = ended(apart, {"data/shared": shared, "data/x": b"x"})
    apart.ok("PUT", "/api/v1/repos/local/shared/tags/train/latest", json={"run": tagged.run})
    failed = ended(apart, {"data/failed": b"failed"}, state="failed")
    runner = apart.runner()
    names = apart.runs({"prepare": runner.only(), "after": runner.only()}, needs={"after": ("prepare",)})
    source = runner.take(names["prepare"])
    source.save("data", {"data/rows": b"rows"})
    source.end()
    user = runner.take(names["after"])  # unfinished, and it was given what `prepare` made
    user.state("running")
    gone_blobs = {sha256(own), sha256(large), sha256(b"failed")}
    before = stored(apart)
    assert gone_blobs < before
    age_blobs(apart, 40 * DAY)
    assert prune(apart, days=30) == {"runs": 0, "artifacts": 0, "blobs": 0, "bytes": 0, "dry_run": True}
    apart.clock.ahead += 40 * DAY
    counted = prune(apart)
    assert (counted["runs"], counted["artifacts"], counted["dry_run"]) == (2, 2, True)
    assert counted["bytes"] >= 401_000
    assert stored(apart) == before and apart.get_run(gone.run)["name"] == gone.run
    done = prune(apart, dry_run=False)
    assert done == counted | {"dry_run": False}
    for run in (gone.run, failed.run):
        assert apart.call("GET", f"/api/v1/runs/{run}").status_code == 404
        assert apart.call("GET", f"/api/v1/runs/{run}/log").status_code == 404
    assert stored(apart) & gone_blobs == set()
    assert {r["name"] for r in apart.ok("GET", "/api/v1/runs")["runs"]} == {tagged.run, source.run, user.run}
    assert download(apart, tagged.run, "data/shared") == shared
    assert download(apart, source.run, "data/rows") == b"rows"
    log = apart.call("GET", f"/api/v1/runs/{tagged.run}/log").content
    assert log == b"a line of " + tagged.run.encode() + b"\n"
    assert apart.wiring.logs.size(gone.attempt) == 0
    assert user.call("GET", f"blobs/{sha256(b'rows')}").content == b"rows"
    again = prune(apart, dry_run=False)
    assert (again["runs"], again["blobs"]) == (0, 0)


def test_a_fresh_blob_is_left_for_the_artifact_it_belongs_to(apart: Api) -> None:
    held = apart.attempt()
    held.ok("PUT", f"blobs/{sha256(b'on its way')}", data=b"on its way")
    prune(apart, days=0, dry_run=False)
    files = {"data/x": b"on its way"}
    assert held.ok("POST", "blobs/missing", json={"digests": [sha256(b"on its way")]}) == {"missing": []}
    held.save("data", files)


def test_a_pruned_runs_commit_goes_when_no_branch_has_it(apart: Api) -> None:
    copy = apart.working_copy()
    copy.commit({".dstack/workflows.yaml": WORKFLOWS})
    copy.push()
    repo_id = str(apart.repo_id(copy.repo))
    kept = copy.commit({"more": "1"})
    copy.push()
    apart.ok("POST", f"/api/v1/runs/{copy.runs()[0]['name']}/stop", json={})
    apart.ok("POST", f"/api/v1/runs/{copy.runs()[1]['name']}/stop", json={})
    apart.clock.ahead += 40 * DAY
    assert prune(apart, dry_run=False)["runs"] == 2
    assert copy.runs() == []
    assert apart.wiring.git.has_commit(repo_id, kept)
    again = apart.working_copy(copy.repo)
    again.git("pull", "-q", again.address(), "main")
    assert again.git("rev-parse", "HEAD") == kept


# Schema


def base(path: Path) -> Any:
    return create_engine(f"sqlite:///{path}")


def test_the_migrations_end_where_the_models_are(tmp_path: Path) -> None:
    engine = base(tmp_path / "dstack.db")
    command.upgrade(alembic_config(engine), "head")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})  # defaults are for rows of before
        assert compare_metadata(context, SQLModel.metadata) == []
    engine.dispose()


def test_the_migrations_are_one_line_and_their_files_begin_with_their_names(tmp_path: Path) -> None:
    script = ScriptDirectory.from_config(alembic_config(base(tmp_path / "x.db")))
    assert len(script.get_heads()) == 1 and len(script.get_bases()) == 1
    names = [revision.revision for revision in script.walk_revisions()][::-1]
    files = [Path(revision.path).name for revision in script.walk_revisions()][::-1]
    assert names == sorted(names) and all(file.startswith(f"{name}_") for file, name in zip(files, names, strict=True))


def shape(path: Path) -> dict[str, Any]:
    """All of a schema but the order of columns and their defaults, which are for rows of before."""
    with sqlite3.connect(path) as database:
        ask = database.execute
        tables = [name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: dict[str, Any] = {}
        for table in tables:
            columns = {(name, *rest, key) for _, name, *rest, _, key in ask(f"PRAGMA table_info({table})")}
            refers = {tuple(row[2:]) for row in ask(f"PRAGMA foreign_key_list({table})")}
            indexes = {
                (unique, origin, partial, *(row[2] for row in ask(f"PRAGMA index_info({index!r})")))
                for _, index, unique, origin, partial in ask(f"PRAGMA index_list({table})").fetchall()
            }
            (checks,) = ask("SELECT sql LIKE '%CHECK%' FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            found[table] = (columns, refers, indexes, checks)
        found["indexes"] = set(ask("SELECT name, tbl_name, sql LIKE '%WHERE%' FROM sqlite_master WHERE type = 'index'"))
        found["version"] = ask("SELECT version_num FROM alembic_version").fetchall()
    return found


def test_a_new_database_is_what_the_migrations_would_have_made(tmp_path: Path) -> None:
    made, migrated = base(tmp_path / "made.db"), base(tmp_path / "migrated.db")
    migrate(made, tmp_path / "made.db")
    command.upgrade(alembic_config(migrated), "head")
    assert shape(tmp_path / "made.db") == shape(tmp_path / "migrated.db")
    made.dispose()
    migrated.dispose()


def test_numbers_that_others_choose_have_64_bits() -> None:
    """GitHub's ids passed 2^31 long ago, and an artifact may have more bytes; PostgreSQL's INTEGER ends there."""
    columns = [column for table in SQLModel.metadata.sorted_tables for column in table.columns]
    assert {str(column) for column in columns if isinstance(column.type, BigInteger)} == {
        "github_apps.app_id", "forge_logs.app_id", "installations.id", "repos.installation_id", "commands.comment_id",
        "artifacts.bytes", "attempts.log_bytes", "metrics.step",
    }  # fmt: skip


def test_tables_without_a_schema_of_ours_are_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "dstack.db") as other:
        other.execute("CREATE TABLE users (id INTEGER)")
    engine = base(tmp_path / "dstack.db")
    with pytest.raises(OperationalError, match="already exists"):
        migrate(engine, tmp_path / "dstack.db")
    engine.dispose()


def test_a_server_does_not_load_what_migrates_without_need(tmp_path: Path) -> None:
    """It would stay in memory for as long as the server runs."""
    look = (
        "import sys; from pathlib import Path; import dstack.server.serve\n"
        "from dstack.server.bootstrap import start; from dstack.server.settings import Settings\n"
        "for _ in 'new', 'known':\n"
        "    with start(Settings(data=Path(sys.argv[1]))): pass\n"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", look, str(tmp_path / "data")], check=False).returncode == 0


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(Settings(data=data)):
        pass
    with sqlite3.connect(data / "dstack.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = (data / "dstack.db").read_bytes()
    with pytest.raises(Conflict, match="9999") as caught, start(Settings(data=data)):
        pass
    assert "newer version" in caught.value.hint
    assert (data / "dstack.db").read_bytes() == before


def test_an_older_schema_is_copied_before_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "dstack.db"
    engine = base(path)
    config = alembic_config(engine)
    revisions = [r.revision for r in ScriptDirectory.from_config(config).walk_revisions()][::-1]
    command.upgrade(config, revisions[0])
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO users (name, role, created_at) VALUES ('ada', 'admin', 1.0)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revisions[0],))
    migrate(engine, path)
    copies = list(tmp_path.glob("dstack.before-*.db"))
    assert len(copies) == (1 if len(revisions) > 1 else 0)  # nothing changed, so nothing is copied
    for copy in copies:
        with sqlite3.connect(copy) as connection:
            assert connection.execute("SELECT name FROM users").fetchall() == [("ada",)]
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(revisions[0],)]
    engine.dispose()


def test_a_server_with_runs_goes_on_with_the_newer_schema(tmp_path: Path) -> None:
    """With rows that refer to one another, and on the server's own connection, which holds them to it."""
    data = tmp_path / "data"
    data.mkdir()
    engine = base(data / "dstack.db")
    command.upgrade(alembic_config(engine), "0001")
    kept = {
        "repos": {"owner": "'acme'", "name": "'vision'"},
        "groups": {"name": "'group-1'", "repo_id": 1, "state": "'succeeded'"},
        "runs": {"name": "'brave-otter-17'", "repo_id": 1, "group_id": 1, "workflow": "'train'", "trigger": "'push'"},
        "tags": {"repo_id": 1, "run_id": 1, "workflow": "'train'", "name": "'best'"},
        "heads": {"repo_id": 1, "ref": "'refs/heads/main'", "sha": "'a1'"},
    }
    with sqlite3.connect(data / "dstack.db") as old:
        for table, values in kept.items():
            columns = old.execute(f"PRAGMA table_info({table})").fetchall()
            row = {name: 1 for _, name, _, needed, default, _ in columns if needed and default is None}
            row |= values
            old.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(map(str, row.values()))})")
        before = {table: old.execute(f"SELECT {', '.join(kept[table])} FROM {table}").fetchall() for table in kept}
    engine.dispose()
    with start(Settings(data=data)) as started, started.wiring.db.engine.connect() as connection:
        ask = connection.exec_driver_sql
        assert {table: ask(f"SELECT {', '.join(kept[table])} FROM {table}").fetchall() for table in kept} == before
        assert ask("SELECT pull_request, is_clean, work_key FROM runs").fetchall() == [(None, 1, "")]
        assert ask("PRAGMA foreign_keys").fetchall() == [(1,)], "it is on again"
    assert [copy.name for copy in data.glob("*.before-*")] == ["dstack.before-0002.db"]


def test_rows_that_refer_to_nothing_are_said_and_nothing_changes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    engine = base(data / "dstack.db")
    command.upgrade(alembic_config(engine), "0001")
    engine.dispose()
    with sqlite3.connect(data / "dstack.db") as old:
        old.execute("INSERT INTO heads (repo_id, ref, sha) VALUES (7, 'refs/heads/main', 'a1')")
    with pytest.raises(Conflict, match="heads -> repos"), start(Settings(data=data)):
        pass
    with sqlite3.connect(data / "dstack.db") as left:
        assert left.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert left.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pull_requests'").fetchall() == [(0,)]


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """F23."""
    caplog.set_level(logging.ERROR)
    data = tmp_path / "data"
    with start(Settings(data=data)):
        with pytest.raises(Conflict, match="another server uses") as caught, start(Settings(data=data)):
            pass
        assert "DSTACK_DATA" in caught.value.hint
    with start(Settings(data=data)) as started:
        assert started.first_token is None


def test_a_short_admin_token_is_refused(tmp_path: Path) -> None:
    from dstack.errors import Invalid

    with pytest.raises(Invalid, match="16"), start(Settings(data=tmp_path / "data", admin_token="short")):
        pass


def test_the_first_start_makes_an_admin_and_the_next_does_not(tmp_path: Path) -> None:
    data = tmp_path / unique("data")
    with start(Settings(data=data)) as first:
        assert first.first_token and first.first_token.startswith("dst_")
    with serve(tmp_path / unique("other")) as other:
        assert other.call("GET", "/api/v1/server", first.first_token).status_code == 401
