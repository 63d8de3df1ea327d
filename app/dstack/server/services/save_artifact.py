"""Makes an artifact visible once every blob of its manifest is in the store."""

from __future__ import annotations

from sqlmodel import Session

from dstack.errors import Conflict, Invalid
from dstack.server.models import Artifact, Attempt
from dstack.server.store.artifacts import artifact_of_attempt
from dstack.server.store.jobs import job_by_id
from dstack.wire.manifest import Manifest
from dstack.wire.runner import ArtifactSaved, SaveArtifact

MAX_NAME = 1000


def record_artifact(
    session: Session, attempt: Attempt, request: SaveArtifact, manifest: Manifest, now: float
) -> ArtifactSaved:
    """Write the row. The same content again is the same artifact; other content under a taken path is refused."""
    check_name(request.path)
    digest = manifest.digest
    existing = artifact_of_attempt(session, attempt.id, request.path)
    if existing is not None and existing.digest != digest:
        raise Conflict(f"artifact {request.path!r} of this attempt is stored already, with other content")
    if existing is None:
        job = job_by_id(session, attempt.job_id)
        session.add(
            Artifact(
                run_id=job.run_id,
                job_id=attempt.job_id,
                attempt_id=attempt.id,
                path=request.path,
                digest=digest,
                bytes=manifest.size,
                files=len(manifest.files),
                skipped=[line[:500] for line in request.skipped[:100]],
                created_at=now,
            )
        )
    return ArtifactSaved(digest, manifest.size, len(manifest.files))


def check_name(path: str) -> None:
    """The path or pattern a workflow names an artifact by stays below its working directory. Raises Invalid."""
    is_below = bool(path) and not path.startswith(("/", "~")) and ".." not in path.split("/")
    if not is_below or "\\" in path or len(path) > MAX_NAME or not path.isprintable():
        raise Invalid(f"{path[:100]!r} cannot name an artifact")
