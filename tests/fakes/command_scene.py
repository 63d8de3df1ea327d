"""A pull request on the fake GitHub whose comments the whole server answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from joined_github import REPO, Joined, joined
from served_api import unique, wait_for
from sqlmodel import select

from dstack.server.models import Delivery, OutboxMark, Run

WRITER, READER, STRANGER, PROGRAM = "wendy", "rita", "sam", "helper[bot]"
IDLE = "resources: {labels: [nobody]}"  # no runner of these tests takes it
FILES = {
    ".dstack/workflows.yaml": f"""
workflows:
  - {{name: prepare, provider: bash, commands: ls, {IDLE}, on: manual}}
  - {{name: train, provider: bash, commands: ls, {IDLE}, depends-on: prepare, help: Train it, on: {{comment: /train}}}}
  - {{name: tagged, provider: bash, commands: ['true'], {IDLE}, depends-on: ['prepare:latest'], on: manual}}
  - {{name: check, provider: bash, commands: ['true'], {IDLE}, on: {{pull_request: {{paths: ['*.py']}}}}}}
""",
    ".dstack/variables.yaml": "variables: {train: {lr: 0.01, note: hello}}\n",
}


@dataclass
class Talk(Joined):
    """`number` is a pull request of the writer, `sha` its head as it was opened."""

    number: int = 0
    sha: str = ""

    def fresh(self) -> Talk:
        """The same server, at a pull request of its own."""
        branch = unique("faster")
        head = self.fake.head(self.fake.repo(REPO), "main")
        sha = self.fake.commit(REPO, branch, {"train.py": f"print({branch!r})\n"}, "Faster", parent=head)
        number = self.fake.open_pull(REPO, branch, author=WRITER)
        self.settle()
        return replace(self, number=number, sha=sha)

    def say(self, body: str, author: str = WRITER, number: int = 0, created_at: float | None = None) -> int:
        """A comment, handled; its id."""
        comment = self.fake.comment(REPO, number or self.number, author, body, created_at)
        self.settle()
        return comment

    def reactions(self, comment: int, last: str) -> list[str]:
        """Those on a comment, once `last` is there."""
        wait_for(lambda: last in self.fake.reactions(comment))
        return self.fake.reactions(comment)

    def replies(self, comment: int, number: int = 0) -> list[str]:
        """Ours to a comment, sent by now or not at all."""
        marker = f"<!-- dstack:reply:{comment} -->"
        return [c.body for c in self.fake.comments(REPO, number or self.number) if marker in c.body]

    def reply(self, comment: int, holding: str = "", number: int = 0) -> str:
        """The one reply, once it is there (and holds a text)."""
        wait_for(lambda: any(holding in text for text in self.replies(comment, number)))
        (text,) = self.replies(comment, number)
        return text

    def mine(self) -> Sequence[Run]:
        """The runs of this pull request, oldest first."""
        return [run for run in self.runs() if run.pull_request == self.number]

    def commented(self) -> Sequence[Run]:
        """Those that comments have made."""
        return [run for run in self.mine() if run.trigger == "comment"]

    def marks(self, kind: str) -> Sequence[OutboxMark]:
        """What is still to be sent."""
        return self.api.wiring.db.read(lambda s: s.exec(select(OutboxMark).where(OutboxMark.kind == kind)).all())

    def told(self, comment: int) -> Delivery:
        """The delivery that brought a comment."""
        (found,) = [d for d in self.deliveries("issue_comment.created") if f'"id": {comment}'.encode() in d.payload]
        return found


@contextmanager
def talk(folder: Path) -> Iterator[Talk]:
    with joined(folder, FILES, github_write_gap_s=0) as made:
        made.fake.set_permission(REPO, WRITER, "write")
        made.fake.set_permission(REPO, READER, "read")
        made.fake.set_permission(REPO, STRANGER, "none")
        made.fake.account(PROGRAM, "Bot")
        yield Talk(made.api, made.fake, made.app, made.installation)
