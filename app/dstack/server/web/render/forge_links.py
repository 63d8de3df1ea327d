"""Where something stands on the forge, and in words what the forge refused to take; pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from dstack.server.web.render.models import Refusal

_WORDS = {
    "status": "The commit status {rest}",
    "check": "The check",
    "comment": "The comment on #{target}",
    "issue": "The issue about {target}",
    "notify": "The notification",
}


@dataclass(frozen=True, slots=True)
class ForgeLinks:
    """Addresses of one repository's pages on the forge; all are empty for one that lives on this server alone."""

    repo_url: str = ""

    @classmethod
    def of(cls, github_url: str, full_name: str, *, is_mirror: bool) -> ForgeLinks:
        return cls(f"{github_url}/{quote(full_name)}" if is_mirror else "")

    def commit(self, sha: str) -> str:
        return f"{self.repo_url}/commit/{quote(sha)}" if self.repo_url else ""

    def pull(self, number: int | None) -> str:
        return f"{self.repo_url}/pull/{number}" if self.repo_url and number is not None else ""


def refusal(kind: str, target: str, problem: str) -> Refusal:
    """`target` without its repo: `SHA:CONTEXT` of a status, the number of a comment, the workflow of an issue."""
    words = _WORDS.get(kind, kind.replace("-", " "))
    return Refusal(
        words.format(target=target, rest=target.partition(":")[2] or "of its commit"), problem, kind == "notify"
    )
