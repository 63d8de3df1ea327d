"""A GitHub to test against: real HTTP, real Git, real webhooks, state that is kept, and faults on demand.

with FakeGitHub(tmp_path) as github:
    app = github.make_app(webhook_url=...)
    github.create_repo("acme/vision", files={...})
    github.install(app, "acme", ["acme/vision"])
    sha = github.push("acme/vision", "main", {"train.py": "..."})
    github.flush()
    assert github.statuses("acme/vision", sha)["dstack/train"].state == "success"
    assert not github.violations
"""

from fake_github.fake import FakeGitHub
from fake_github.state import (
    Account,
    App,
    Call,
    CheckRun,
    CheckSuite,
    Comment,
    Delivery,
    Installation,
    Issue,
    Pull,
    Repo,
    Status,
)

__all__ = [
    "FakeGitHub",
    "Account",
    "App",
    "Call",
    "CheckRun",
    "CheckSuite",
    "Comment",
    "Delivery",
    "Installation",
    "Issue",
    "Pull",
    "Repo",
    "Status",
]
