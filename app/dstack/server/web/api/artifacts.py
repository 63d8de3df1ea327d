"""Artifacts: list, their files, download."""

from __future__ import annotations

from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from dstack.errors import NotFound
from dstack.server.models import Artifact
from dstack.server.store.artifacts import artifact_by_id, artifacts_of_runs
from dstack.server.store.views import view_artifact
from dstack.server.web import content
from dstack.server.web.access import Audience
from dstack.server.web.api.runs import find_run
from dstack.server.web.manifests import manifest_of
from dstack.server.web.operation import Call, Operations
from dstack.server.wiring import Wiring
from dstack.wire.api import ArtifactFile, ArtifactView
from dstack.wire.manifest import Manifest

operations = Operations()


@operations.add("GET", "/api/v1/runs/{name}/artifacts", Audience.USER, gives=list[ArtifactView])
async def get_artifacts(call: Call) -> list[ArtifactView]:
    """What the run stored."""

    def query(session: Session) -> list[ArtifactView]:
        run = find_run(session, call.path("name"))
        return [view_artifact(artifact) for artifact in artifacts_of_runs(session, [run.result_id])]

    return await call.wiring.db.read_async(query)


@operations.add("GET", "/api/v1/artifacts/{id}/files", Audience.USER, gives=list[ArtifactFile])
async def get_files(call: Call) -> list[ArtifactFile]:
    """The files of an artifact."""
    manifest = await run_in_threadpool(read_manifest, call.wiring, call.path("id"))
    return [ArtifactFile(f.path, f.size, f.digest, f.mode, f.target) for f in manifest.files]


@operations.add("GET", "/api/v1/artifacts/{id}/files/{path:path}", Audience.USER)
async def get_file(call: Call) -> Response:
    """The bytes of one file; one range may be asked for."""
    manifest = await run_in_threadpool(read_manifest, call.wiring, call.path("id"))
    path = call.path("path")
    entry = next((f for f in manifest.files if f.path == path and f.target is None), None)
    if entry is None:
        raise NotFound(f"the artifact has no file {path[:200]}")
    return await content.get_blob(call.request, entry.digest, call.wiring.objects, filename=path.rpartition("/")[2])


def find_artifact(session: Session, text: str) -> Artifact:
    """Raises NotFound."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0
    artifact = artifact_by_id(session, number)
    if artifact is None:
        raise NotFound(f"there is no artifact {text[:40]}")
    return artifact


def read_manifest(wiring: Wiring, artifact_id: str) -> Manifest:
    """The manifest of an artifact. Raises NotFound."""
    artifact = wiring.db.read(lambda s: find_artifact(s, artifact_id))
    return manifest_of(wiring.objects, artifact.digest)
