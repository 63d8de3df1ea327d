"""Serves the fake with one sample repository, for trying by hand: `python -m fake_github [PORT]` in tests/fakes.

`--webhook URL` sends an App's webhooks there; on standard input, lines `push`, `pull`, `comment TEXT` act as a person.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from fake_github import FakeGitHub

REPO = "acme/vision"
WORKFLOWS = "workflows:\n  - name: train\n    provider: bash\n    commands: [echo trained]\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fake_github", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", nargs="?", type=int, default=3999)
    parser.add_argument("--webhook", default="", help="where the sample App's webhooks go")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, FakeGitHub(Path(folder), port=given.port) as github:
        github.create_repo(REPO, files={"train.py": "print('trained')\n", ".dstack/workflows.yaml": WORKFLOWS})
        app = github.make_app("dstack-sample", webhook_url=given.webhook)
        github.install(app, "acme", [REPO])
        github.set_permission(REPO, "jane", "write")
        key = Path(folder) / "app.pem"
        key.write_text(app.pem)
        print(f"pages            {github.url}/")
        print(f"register an App  {github.url}/settings/apps/new")
        print(f"settings         DSTACK_GITHUB_URL={github.url} DSTACK_GITHUB_API_URL={github.api_url}")
        print(f"                 DSTACK_GITHUB_APP_ID={app.id} DSTACK_GITHUB_PRIVATE_KEY_PATH={key}")
        print(f"                 DSTACK_GITHUB_WEBHOOK_SECRET={app.webhook_secret}")
        print(f"clone            git clone {_with_token(github)}/{REPO}.git   (as jane)")
        print("type push, pull or comment TEXT; end of input stops", flush=True)
        _converse(github)


def _with_token(github: FakeGitHub) -> str:
    return github.url.replace("http://", f"http://jane:{github.user_token('jane')}@")


def _converse(github: FakeGitHub) -> None:
    number = 0
    for count, line in enumerate(sys.stdin, 1):
        word, _, text = line.strip().partition(" ")
        if word == "push":
            print(github.push(REPO, "main", {"train.py": f"print({count})\n"}, text or "A push", author="jane"))
        elif word == "pull":
            github.push(REPO, f"feature-{count}", {"train.py": f"print({count})\n"}, author="jane")
            number = github.open_pull(REPO, f"feature-{count}", title=text or "A change", author="jane")
            print(f"{github.url}/{REPO}/pull/{number}")
        elif word == "comment" and number:
            github.comment(REPO, number, "jane", text)
        else:
            print("push [MESSAGE] · pull [TITLE] · comment TEXT (after pull)")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
