"""A whole installation beside a GitHub that keeps state: real webhooks in, real statuses, checks and comments out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fake_github import FakeGitHub, Status
from installation import Json, Site
from machines import until

REPO = "acme/vision"
WRITER, READER, STRANGER = "wendy", "rita", "mallory"
FILE = ".dstack/workflows.yaml"
OWED = "SELECT kind, target, problem FROM outbox WHERE kind NOT IN ('notes', 'notify') AND not_before <= ?"


class OnGitHub:
    """One repository on the fake, known to the server through its App; a runner takes the jobs."""

    def __init__(
        self, root: Path, files: Mapping[str, str], repo: str = REPO, permissions: Mapping[str, str] | None = None,
        **env: str,
    ) -> None:  # fmt: skip
        self.fake = FakeGitHub(root / "github")
        self.repo = repo
        self.app = self.fake.make_app("dstack", permissions=permissions)
        self.first = self.fake.head(self.fake.create_repo(repo, files={"train.py": "print(1)\n", **files}))
        for login, permission in ((WRITER, "write"), (READER, "read"), (STRANGER, "none")):
            self.fake.set_permission(repo, login, permission)
        given = {
            "DSTACK_GITHUB_APP_ID": str(self.app.id), "DSTACK_GITHUB_PRIVATE_KEY": self.app.pem,
            "DSTACK_GITHUB_WEBHOOK_SECRET": self.app.webhook_secret, "DSTACK_GITHUB_API_URL": self.fake.api_url,
            "DSTACK_GITHUB_URL": self.fake.url, "DSTACK_GITHUB_MODE": "webhook", "DSTACK_GITHUB_WRITE_GAP_S": "0.02",
        }  # fmt: skip
        self.site = Site(root, **(given | env))
        self.app.webhook_url = f"{self.site.server.url}/webhooks/github"
        self.installation = 0

    def start(self) -> OnGitHub:
        self.site.start()
        self.installation = self.fake.install(self.app, "acme")
        self.until_known()
        return self

    def close(self) -> None:
        """Raises what went wrong inside the fake itself."""
        self.site.close()
        self.fake.__exit__(None)

    def until_known(self) -> None:
        """The server knows the repository: what is pushed from now on is not taken as old."""
        until(lambda: self.repo in str(self.site.get("/repos")), 20, f"the repository is known\n{self.site.said()}")

    # What people do

    def push(self, files: Mapping[str, str], branch: str = "main", message: str = "Change") -> str:
        return self.fake.push(self.repo, branch, dict(files), message, WRITER)

    def open_pull(self, branch: str, files: Mapping[str, str], **more: Any) -> tuple[int, str]:
        """A pull request of the writer, and its head."""
        sha = self.push(files, branch, "Better")
        return self.fake.open_pull(self.repo, branch, author=WRITER, **more), sha

    def fork_pull(self, author: str, files: Mapping[str, str]) -> tuple[int, str]:
        mine = f"{author}/{self.repo.partition('/')[2]}"
        if self.fake.find_repo(mine) is None:
            self.fake.fork(self.repo, author)
        sha = self.fake.commit(mine, "better", dict(files), "Better", author, parent=self.fake.head(self.repo))
        return self.fake.open_pull(self.repo, "better", author=author, head_repo=mine), sha

    def say(self, number: int, text: str, author: str = WRITER) -> int:
        """A comment, in a later second than the newest push: which came first in one second nobody can tell."""
        pushed = max(map(self._pushed, (self.repo, f"{STRANGER}/{self.repo.partition('/')[2]}")))
        until(lambda: time.time() >= int(pushed) + 1, 2, "the second of the push is over")
        return self.fake.comment(self.repo, number, author, text)

    def _pushed(self, name: str) -> float:
        found = self.fake.find_repo(name)
        return (found.pushed_at or 0.0) if found else 0.0

    # What the server made of it

    def runs(self, sha: str = "") -> list[Json]:
        """Oldest first."""
        return list(reversed(self.site.runs(**({"sha": sha} if sha else {}))))

    def until_runs(self, sha: str, count: int, within_s: float = 20.0) -> list[Json]:
        """The runs of a commit, once there are so many; no more of them come."""
        until(lambda: len(self.runs(sha)) >= count, within_s, f"{count} runs of {sha}\n{self.site.said()}")
        self.fake.flush()
        runs = self.runs(sha)
        assert len(runs) == count, [(run["workflow"], run["name"]) for run in runs]
        return runs

    def ended(self, sha: str, count: int, within_s: float = 45.0) -> list[Json]:
        return [self.site.wait(run["name"], within_s) for run in self.until_runs(sha, count)]

    # What GitHub shows

    def status(self, sha: str, context: str, *states: str, within_s: float = 20.0) -> Status:
        """A commit status, once it is in one of these states."""

        def seen() -> Status | None:
            found = self.fake.statuses(self.repo, sha).get(context)
            return found if found is not None and found.state in states else None

        def told() -> str:
            shown = {c: (s.state, s.description) for c, s in self.fake.statuses(self.repo, sha).items()}
            return f"{context} of {sha[:7]} is {' or '.join(states)}: {shown}\n{self.site.said()}"

        return until_told(seen, within_s, told)

    def history(self, sha: str, context: str) -> list[str]:
        """States of a status, oldest first."""
        return [status.state for status in self.fake.all_statuses(self.repo, sha, context)]

    def ours(self, number: int, marker: str = "<!-- dstack:pull -->") -> list[str]:
        return [c.body for c in self.fake.comments(self.repo, number) if marker in c.body]

    def comment(self, number: int, *texts: str, within_s: float = 20.0) -> str:
        """The one comment of a pull request, once it holds all of these."""

        def seen() -> str | None:
            return next((body for body in self.ours(number) if all(text in body for text in texts)), None)

        until_told(seen, within_s, lambda: f"a comment with {texts}: {self.ours(number)}\n{self.site.said()}")
        (body,) = self.ours(number)
        return body

    def reply(self, number: int, comment: int, text: str = "", within_s: float = 20.0) -> str:
        """The one reply to a comment with commands, once it holds this."""
        marker = f"<!-- dstack:reply:{comment} -->"

        def seen() -> str | None:
            return next((body for body in self.ours(number, marker) if text in body), None)

        until_told(seen, within_s, lambda: f"a reply with {text!r}: {self.ours(number, marker)}\n{self.site.said()}")
        (body,) = self.ours(number, marker)
        return body

    def until_reacted(self, comment: int, content: str, within_s: float = 20.0) -> None:
        until(lambda: content in self.fake.reactions(comment), within_s, f"{content} on a comment")

    def settle(self, within_s: float = 30.0) -> None:
        """Every webhook handled, every run at its end, every change told."""
        self.fake.flush(within_s)
        received = "SELECT count(*) AS n FROM deliveries WHERE state = 'received'"
        until(lambda: not self.count(received), within_s, f"all deliveries are handled\n{self.site.said()}")
        self.site.wait_all(within_s)
        self.until_told(within_s)

    def until_told(self, within_s: float = 30.0) -> None:
        """Nothing that GitHub is to know is due; what is looked at again later is not."""
        until_told(lambda: not self.owed(), within_s, lambda: f"all is told: {self.owed()}\n{self.site.said()}")

    def owed(self) -> list[tuple[Any, ...]]:
        """What is due to be told: kind, target, and what was wrong with it last."""
        return [tuple(row) for row in self.site.ledger.rows(OWED, time.time())]

    def told(self) -> list[tuple[Any, ...]]:
        """What became of each delivery, newest last."""
        query = "SELECT id, kind, event, state, reason FROM deliveries ORDER BY id DESC LIMIT 40"
        return [tuple(row) for row in reversed(self.site.ledger.rows(query))]

    def count(self, query: str, *values: object) -> int:
        return int(self.site.ledger.rows(query, *values)[0]["n"])

    # What must hold at the end

    def assert_told_once(self) -> None:
        """I4, I13: one check for each run and one comment for each pull request, and GitHub shows what is true here."""
        # What waits for a verdict, or for its turn, is told a moment after the rest.
        until_told(lambda: not self.untold(), 15, lambda: f"all is told: {self.untold()}")
        checks = [check.external_id for check in self.fake.checks(self.repo)]
        assert len(checks) == len(set(checks)), f"a run has two checks: {sorted(checks)}"
        for number in {run["pull_request"] for run in self.runs() if run["pull_request"]}:
            assert len(self.ours(number)) == 1, f"#{number} has {len(self.ours(number))} comments of ours"
        assert self.fake.violations == []

    def untold(self) -> list[str]:
        """What GitHub does not show yet as it is here: checks left open, comments not made, statuses left pending."""
        runs = self.runs()
        left = [f"{check.name} is open" for check in self.fake.checks(self.repo) if check.status != "completed"]
        pulls = {run["pull_request"] for run in runs if run["pull_request"]}
        left += [f"#{number} has no comment of ours" for number in pulls if not self.ours(number)]
        for sha in {run["sha"] for run in runs}:
            statuses = self.fake.statuses(self.repo, sha).items()
            left += [f"{sha[:7]} {c}: {s.description}" for c, s in statuses if s.state == "pending"]
        return left

    def assert_sound(self) -> None:
        self.assert_told_once()
        self.site.assert_sound()


def until_told(condition: Callable[[], Any], within_s: float, what: Callable[[], str]) -> Any:
    """As `until`, and says at the end what it saw last."""
    try:
        return until(condition, within_s, "")
    except AssertionError as error:
        raise AssertionError(f"{error}{what()}") from None


@contextmanager
def on_github(root: Path, files: Mapping[str, str], **more: Any) -> Iterator[OnGitHub]:
    """Started, and nothing of it left at the end."""
    made = OnGitHub(root, files, **more)
    try:
        yield made.start()
    except BaseException:
        made.site.close()
        made.fake.close()
        raise
    made.close()


def program(**values: float) -> dict[str, str]:
    """A train.py that reports these metrics, once on its way and at its end."""
    point, last = json.dumps({"step": 1, **values}), json.dumps(values)
    steps = f"with open(os.environ['DSTACK_METRICS'], 'a') as out:\n    print({point!r}, file=out)\n"
    return {"train.py": f"import os\n{steps}open('metrics.json', 'w').write({last!r})\n"}
