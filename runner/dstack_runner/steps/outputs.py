"""Stores what a job made: its metrics, its report, a provider's list of jobs, and its artifacts."""

from __future__ import annotations

import posixpath

from dstack.errors import DstackError, LeaseLost, NotFound
from dstack.git.run import git
from dstack.wire.job import ArtifactSpec, SaveWhen
from dstack.wire.states import Reason
from dstack_runner import argv
from dstack_runner.attempt import Attempt
from dstack_runner.inside import read_inside
from dstack_runner.logmetrics import search
from dstack_runner.metrics import final_metrics
from dstack_runner.outcome import StepFailed
from dstack_runner.server import worth_retrying
from dstack_runner.words import counted

FILE_LIMIT = 16 * 1024 * 1024
REPORT_LIMIT = 64 * 1024
JOBS_LIMIT = 4 * 1024 * 1024


def run(attempt: Attempt) -> None:
    """Take everything that can be had; the first failure that matters is raised at the end."""
    if attempt.mirror is None or not attempt.places.checkout.is_dir():
        return  # it never came so far as to make anything
    failures: list[StepFailed] = []
    _metrics(attempt)
    _report(attempt)
    _jobs(attempt, failures)
    _artifacts(attempt, failures)
    if failures:
        raise failures[0]


def _metrics(attempt: Attempt) -> None:
    spec = attempt.order.job.metrics
    if spec is None:
        return
    if spec.file:
        try:
            data = _read(attempt, spec.file)
            attempt.metrics |= final_metrics(spec.file, data)
        except DstackError as error:
            attempt.log.say(f"metrics: {error.message}")
    if spec.log:
        attempt.log.finish()
        found, trouble = search(spec.log, attempt.log_file)
        attempt.metrics |= found
        if trouble:
            attempt.log.say(trouble)


def _report(attempt: Attempt) -> None:
    name = attempt.order.job.report
    if not name:
        return
    try:
        data = _read(attempt, name)
    except NotFound:
        attempt.log.say(f"report: {name} is not there")
    except DstackError as error:
        attempt.log.say(f"report: {error.message}")
    else:
        text = data[:REPORT_LIMIT].decode("utf-8", "ignore" if len(data) > REPORT_LIMIT else "replace")
        attempt.report = text
        if len(data) > REPORT_LIMIT:
            attempt.report += "\n\n(cut here: a report has 64 KB at most)\n"


def _read(attempt: Attempt, name: str) -> bytes:
    """A file the job wrote: relative to the checkout like artifacts, else to the folder its commands ran in."""
    checkout, folder = attempt.places.checkout, attempt.order.job.working_dir
    try:
        return read_inside(checkout, name, FILE_LIMIT)
    except NotFound:
        return read_inside(checkout, posixpath.join(folder, name), FILE_LIMIT)


def _jobs(attempt: Attempt, failures: list[StepFailed]) -> None:
    """The output of a custom provider. Only a job that succeeded has one."""
    if not (attempt.order.job.expects_jobs and attempt.ran):
        return
    try:
        data = read_inside(attempt.places.out, attempt.places.output.name, JOBS_LIMIT)
        attempt.jobs = data.decode("utf-8")
    except (DstackError, UnicodeDecodeError) as error:
        failures.append(StepFailed(f"the provider's list of jobs ($DSTACK_OUTPUT): {error}", reason=Reason.CONFIG))


def _artifacts(attempt: Attempt, failures: list[StepFailed]) -> None:
    specs = [spec for spec in attempt.order.job.artifacts if attempt.ran or spec.when is SaveWhen.ALWAYS]
    if not specs or attempt.control.lost.is_set():
        return
    tracked = _tracked(attempt)
    for spec in specs:
        if spec.when is SaveWhen.SUCCESS:
            attempt.control.check()
        try:
            _save(attempt, spec, tracked)
        except LeaseLost:
            raise
        except DstackError as error:
            hint = f"; {error.hint}" if error.hint else ""
            attempt.log.say(f"artifact {spec.path}: {error.message}{hint}")
            failures.append(
                StepFailed(
                    f"artifact {spec.path}: {error.message}",
                    reason=Reason.ARTIFACTS,
                    machine_fault=worth_retrying(error),
                )
            )


def _save(attempt: Attempt, spec: ArtifactSpec, tracked: frozenset[str]) -> None:
    saved, skipped = attempt.content.save(attempt.places.checkout, spec.path, tracked)
    attempt.log.say(f"artifact {spec.path}: {counted(saved.files, 'file')}, {saved.bytes} bytes, {saved.digest[:12]}")
    for text in skipped[:20]:
        attempt.log.say(f"artifact {spec.path}: left out {text}")
    if len(skipped) > 20:
        attempt.log.say(f"artifact {spec.path}: left out {len(skipped) - 20} more")


def _tracked(attempt: Attempt) -> frozenset[str]:
    """What Git has at this commit, asked of the mirror: the job could have changed its own repository."""
    assert attempt.mirror is not None
    listed = git(argv.git_tracked(attempt.order.sha), cwd=attempt.mirror)
    return frozenset(name.decode("utf-8", "surrogateescape") for name in listed.split(b"\0") if name)
