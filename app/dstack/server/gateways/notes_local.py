"""The Git notes of our repositories, on refs/notes/dstack; what they say is rendered elsewhere (`dstack.git.notes`)."""

from __future__ import annotations

from collections.abc import Mapping

from dstack.git.notes import notes_import
from dstack.git.pushes import NOTES_REF
from dstack.server.gateways.local_git import LocalGit
from dstack.server.gateways.turns import Turns


class LocalNotes:
    """One writer at a time for each repository of `git`; calls for the same one wait for each other."""

    def __init__(self, git: LocalGit) -> None:
        self._git = git
        self._turns = Turns[str]()

    def exist(self, repo_id: str) -> bool:
        return self._git.has_ref(repo_id, NOTES_REF)

    def write(self, repo_id: str, notes: Mapping[str, str]) -> None:
        """Set the whole note of each commit (sha -> text), all in one commit. Commits that are not here any more are
        passed over. Raises GitFailed."""
        with self._turns.of(repo_id):
            present = self._git.find_commits(repo_id, notes)
            if not present:
                return
            known = {sha: text for sha, text in notes.items() if sha in present}
            stream = notes_import(NOTES_REF, known, grows=self.exist(repo_id))
            argv = ["fast-import", "--quiet", "--date-format=now", "--done"]
            self._git.ask(repo_id, argv, stdin=stream, settings=(("fastimport.unpackLimit", "1000"),))

    def read(self, repo_id: str) -> dict[str, str]:
        """All notes: commit -> text."""
        if not self.exist(repo_id):
            return {}
        rows = self._git.ask(repo_id, ["ls-tree", "-r", "-z", NOTES_REF]).decode().split("\0")
        blobs = [
            (path.replace("/", ""), facts.split(" ")[2]) for facts, _, path in (r.partition("\t") for r in rows) if path
        ]
        answers = self._git.contents(repo_id, [blob for _, blob in blobs])
        return {
            sha: answer.data.decode("utf-8", "replace")
            for (sha, _), answer in zip(blobs, answers, strict=False)
            if answer.data is not None
        }
