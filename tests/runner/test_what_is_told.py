"""What travels to the server beside the log: without secrets, and never so that an end goes untold."""

from __future__ import annotations

import json

from runner_server import FakeAttempt, FakeServer, until
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dstack.wire.codec import encode, to_dict
from dstack.wire.job import ArtifactSpec, Command, Job, MetricsSpec, SaveWhen
from dstack.wire.states import AttemptState, Reason

SECRET = "correct-horse-battery"
TELLS_ALL = f"""
mkdir out && ln -s /{SECRET} out/link && echo x > out/file
echo '{{"{SECRET}": 1, "step": 1}}' >> $DSTACK_METRICS
echo '{{"{SECRET}": 2}}' > metrics.json
echo "see {SECRET}" > report.md
echo '["{SECRET}"]' > $DSTACK_OUTPUT
"""


def ended(attempt: FakeAttempt) -> FakeAttempt:
    until(lambda: attempt.finish, within_s=60, what="the attempt ends")
    return attempt


def test_no_secret_travels_beside_the_log(site: FakeServer) -> None:
    job = Job(
        commands=(Command(shell=TELLS_ALL), Command(shell=f"echo {SECRET}; exit 3")),
        secrets=("KEY",),
        artifacts=(ArtifactSpec("out", SaveWhen.ALWAYS),),
        metrics=MetricsSpec(file="metrics.json"),
        report="report.md",
    )
    attempt = ended(site.put(job, site.commit({"a": ""}), secrets={"KEY": SECRET}))
    assert attempt.finish is not None
    assert attempt.finish.message == "echo ***; exit 3: exit code 3"
    assert attempt.finish.metrics == {"***": 2.0} and attempt.finish.report == "see ***\n"
    assert [point.name for point in attempt.points] == ["***"]
    assert attempt.skipped["out"][0].startswith("out/link: is a link that leaves the checkout")
    told = json.dumps([to_dict(attempt.finish), *map(to_dict, attempt.points), attempt.skipped["out"], attempt.text])
    assert SECRET not in told


def test_a_providers_list_of_jobs_is_told_without_secrets(site: FakeServer) -> None:
    job = Job(commands=(Command(shell=f"echo '[\"{SECRET}\"]' > $DSTACK_OUTPUT"),), secrets=("KEY",), expects_jobs=True)
    attempt = ended(site.put(job, site.commit({"a": ""}), secrets={"KEY": SECRET}))
    assert attempt.finish is not None and attempt.finish.jobs == '["***"]\n'


def test_an_end_the_server_cannot_take_is_told_without_what_the_job_left(site: FakeServer) -> None:
    def refuse_reports(request: Request) -> Response | None:
        too_long = request.url.path.endswith("/finish") and int(request.headers["content-length"]) > 1000
        return JSONResponse({"error": "too_large", "message": "too long"}, 413) if too_long else None

    site.answer = refuse_reports
    try:
        job = Job(commands=(Command(shell="head -c 2000 /dev/zero | tr '\\0' x > report.md"),), report="report.md")
        attempt = ended(site.put(job, site.commit({"a": ""})))
    finally:
        site.answer = lambda request: None
    finish = attempt.finish
    assert finish is not None and len(encode(finish)) < 1000
    assert (finish.state, finish.reason) == (AttemptState.FAILED, Reason.ARTIFACTS)
    assert finish.message == "the server did not take what the job left: too long"
