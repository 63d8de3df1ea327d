"""Generated requests against every operation of the description: never a broken answer, always the described shape."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from served_api import ADMIN_TOKEN, Api, Held, unique

from dstack.server.asgi import ALL_OPERATIONS
from dstack.server.web.access import Audience
from dstack.server.web.operation import Operation
from dstack.wire.runner import LEASE_HEADER

EXAMPLES = int(os.environ.get("DSTACK_FUZZ_EXAMPLES", "20"))
CHECKS = (not_a_server_error, response_schema_conformance, content_type_conformance)


@pytest.fixture(scope="module")
def schema(api: Api) -> Any:
    return schemathesis.openapi.from_url(f"{api.url}/api/openapi.json")


@pytest.fixture(scope="module")
def known(api: Api) -> dict[str, str]:
    """Path parameters that name something real."""
    held = api.attempt()
    held.save("data", {"data/rows": b"rows"})
    held.end(metrics={"accuracy": 0.5})
    artifact = api.ok("GET", f"/api/v1/runs/{held.run}/artifacts")[0]["id"]
    run = {"run": held.run, "id": artifact, "workflow": "train", "tag": "latest", "secret": "TOKEN"}
    return run | {"path": "data/rows", "digest": "a" * 64}


def test_the_description_names_every_operation(schema: Any) -> None:
    assert schemathesis.openapi.from_dict(schema.raw_schema).validate() is None
    described = {(m.upper(), p) for p, item in schema.raw_schema["paths"].items() for m in item}
    assert described == {(o.method, o.path.replace(":path}", "}")) for o in ALL_OPERATIONS}
    names = [op["operationId"] for item in schema.raw_schema["paths"].values() for op in item.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("operation", ALL_OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_no_request_breaks_the_server(api: Api, schema: Any, known: dict[str, str], operation: Operation) -> None:
    target = schema[operation.path.replace(":path}", "}")][operation.method]
    is_runners = operation.audience is Audience.RUNNER
    held = api.attempt() if is_runners else None
    if held is not None:
        held.state("running")
    statuses: list[int] = []

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=target.as_strategy(), is_real=st.booleans())
    def check(case: Any, is_real: bool) -> None:
        headers = aim(case, held, known, operation.path, is_real)
        answer = case.call(session=api.http, headers=headers, timeout=20, allow_redirects=False)
        statuses.append(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    check()
    assert statuses and max(statuses) < 500
    assert not {401, 403} & set(statuses), "the caller was not let in, so nothing was tried"


def aim(case: Any, held: Held | None, known: dict[str, str], path: str, is_real: bool) -> dict[str, str]:
    """Let a request reach its handler, and not wait; answers with the headers it needs."""
    if path.endswith("/poll") and isinstance(case.body, dict):
        case.body["wait_s"] = 0
    if isinstance(case.query, dict):
        case.query.pop("follow", None)
    if is_real and case.path_parameters:
        names = known | {"name": known["run"] if "/runs/" in path else "shared", "owner": "local"}
        if path in ("/api/v1/users/{name}", "/api/v1/runners/{name}"):
            names.pop("name")
        case.path_parameters |= {key: names[key] for key in case.path_parameters if key in names}
    if held is None:
        return {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    if "attempt" in case.path_parameters:
        case.path_parameters["attempt"] = held.attempt
    return {"Authorization": f"Bearer {held.runner.token}", LEASE_HEADER: held.lease}


# What a generator seldom finds: each was a request that some server of this kind broke on.
ODD_QUERIES = [
    "limit=0", "limit=-1", f"limit={10**30}", "limit=abc", "limit=٣", "limit=1.0", "limit=", "cursor=-1",
    f"cursor={2**63}", "cursor=abc", f"cursor={10**17}", "state=nope", "state=Running", "repo=a", "repo=a/b/c",
    "repo=%00", "repo=%ff", "sha=%27", "branch=%F0%9F%9A%80", "workflow=" + "x" * 5000, "limit=1&limit=2", "unknown=1",
]  # fmt: skip


@pytest.mark.parametrize("query", ODD_QUERIES)
def test_odd_queries_are_answered(api: Api, query: str) -> None:
    """B90."""
    answer = api.call("GET", f"/api/v1/runs?{query}")
    assert answer.status_code in (200, 400, 404, 422), answer.text


@pytest.mark.parametrize("number", ["0", "-1", "1e3", "abc", "%00", str(2**63), str(10**30), "٣", "1;x", "%2e%2e"])
def test_odd_ids_are_absent(api: Api, number: str) -> None:
    """B89, B90: as absent as one that never was."""
    for path in (f"/api/v1/artifacts/{number}/files", f"/api/v1/artifacts/{number}/files/x", f"/api/v1/runs/{number}",
                 f"/api/v1/runs/{number}/log", f"/api/v1/runs/{number}/artifacts"):  # fmt: skip
        assert api.call("GET", path).status_code == 404, path


BODIES = [
    ("POST", "/api/v1/prune", {"days": 10**400}), ("POST", "/api/v1/prune", {"days": -(10**400)}),
    ("POST", "/api/v1/prune", {"days": -1}), ("POST", "/api/v1/users", {"name": "x" * 10**5}),
    ("POST", "/api/v1/users", {"name": "a\0b"}), ("POST", "/api/v1/users", {"name": "ada", "role": "root"}),
    ("POST", "/api/v1/users", {"name": "é" * 80}), ("POST", "/api/v1/repos", {"name": "../../etc"}),
    ("POST", "/api/v1/repos", {"name": "a/b/c"}), ("POST", "/api/v1/repos", {"name": "-x/y"}),
    ("POST", "/api/v1/repos", {"name": "local/x.git"}), ("POST", "/api/v1/repos", {"name": "local/x\n"}),
    ("POST", "/api/v1/repos", {"name": "local/" + "x" * 300}), ("POST", "/api/v1/repos", {"name": "local/.."}),
    ("PUT", "/api/v1/repos/local/shared/secrets/a-b", {"value": "x"}),
    ("PUT", "/api/v1/repos/local/shared/secrets/DSTACK_X", {"value": "x"}),
    ("PUT", "/api/v1/repos/local/shared/secrets/PATH%00", {"value": "x"}),
    ("PUT", "/api/v1/repos/local/shared/secrets/A", {"value": ""}),
    ("PUT", "/api/v1/repos/local/shared/secrets/A", {"value": "a\0b"}),
    ("PUT", "/api/v1/repos/local/shared/secrets/A", {"value": "x" * 70_000}),
    ("PUT", "/api/v1/repos/local/shared/tags/train/-x", {"run": "brave-otter-1"}),
    ("PUT", "/api/v1/repos/local/shared/tags/train/latest", {"run": "../x"}),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=lambda part: str(part)[:50])
def test_values_that_cannot_be_are_refused(api: Api, method: str, path: str, body: dict[str, Any]) -> None:
    api.shared_repo()
    answer = api.call(method, path, json=body)
    assert answer.status_code in (400, 404, 422), (answer.status_code, answer.text)
    assert answer.json()["message"] and "Traceback" not in answer.text


def test_a_lone_surrogate_is_refused(api: Api) -> None:
    for body in (rb'{"name": "\ud800"}', b'{"name": "\xed\xa0\x80"}'):
        assert api.call("POST", "/api/v1/users", data=body).status_code in (400, 422)


def test_a_wrong_method_says_so(api: Api) -> None:
    for method, path in (
        ("POST", "/api/v1/server"),
        ("PATCH", "/api/v1/runs"),
        ("DELETE", f"/api/v1/runs/{unique('x')}"),
    ):
        answer = api.call(method, path)
        assert answer.status_code == 405
        assert answer.json()["error"] == "wrong_method"
