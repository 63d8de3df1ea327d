"""The pages a person looks at: a pull request's conversation with what Apps wrote about it. Plain, and legible."""

from __future__ import annotations

import html
import re

from markdown_it import MarkdownIt

from fake_github.acts_apps import AppActs
from fake_github.manifest import ManifestPages
from fake_github.rest_checks import latest
from fake_github.routing import NotFound
from fake_github.state import CheckRun, Comment, Issue, Repo, iso
from fake_github.wire import Answer, Request, page, redirect

_CONVERSATION = re.compile(r"/([^/]+/[^/]+)/(pull|issues)/(\d+)")
_RUN = re.compile(r"/([^/]+/[^/]+)/runs/(\d+)")
_GREEN, _RED, _AMBER = "#1a7f37", "#cf222e", "#9a6700"
_SIGNS = {
    "success": ("✓", _GREEN),
    "failure": ("✗", _RED),
    "error": ("✗", _RED),
    "pending": ("●", _AMBER),
    "queued": ("○", _AMBER),
    "in_progress": ("●", _AMBER),
    "action_required": ("!", _AMBER),
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2328}
.comment{border:1px solid #d1d9e0;border-radius:6px;margin:1rem 0}.comment>header{background:#f6f8fa;padding:.5rem 1rem;
border-bottom:1px solid #d1d9e0;border-radius:6px 6px 0 0}.comment>div{padding:.25rem 1rem 1rem}
table{border-collapse:collapse;margin:.5rem 0}th,td{border:1px solid #d1d9e0;padding:.35rem .8rem}
pre{background:#f6f8fa;padding:1rem;overflow:auto;border-radius:6px}code{font:13px ui-monospace,monospace}
.muted{color:#59636e}.pill{background:#1a7f37;color:#fff;border-radius:1rem;padding:.2rem .8rem}
.button{border:1px solid #d1d9e0;border-radius:6px;padding:.2rem .8rem;background:#f6f8fa}img{max-width:100%}
"""


def render(markdown: str) -> str:
    """Roughly GitHub's markdown: tables, and the HTML that comments use. Mermaid stays code."""
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


class Pages:
    def __init__(self, world: AppActs) -> None:
        self._world = world
        self._manifest = ManifestPages(world)

    def answer(self, request: Request) -> Answer:
        """The page at an address; a 404 where there is none."""
        try:
            if match := _CONVERSATION.fullmatch(request.path):
                with self._world.lock:
                    return self._conversation(match[1], match[2], int(match[3]))
            if match := _RUN.fullmatch(request.path):
                with self._world.lock:
                    return self._run(match[1], int(match[2]))
            if request.path == "/":
                return self._front()
            return self._manifest.answer(request)
        except (NotFound, KeyError):
            return page(_document("404", "<h1>404</h1>"), 404)

    def _front(self) -> Answer:
        lines = ""
        for repo in self._world.repos.values():
            pulls = "".join(
                f'<li><a href="/{repo.full_name}/{"pull" if issue.pull else "issues"}/{issue.number}">'
                f"#{issue.number} {html.escape(issue.title)}</a> {issue.state}</li>"
                for issue in repo.issues.values()
            )
            lines += f"<li>{html.escape(repo.full_name)}<ul>{pulls}</ul></li>" if not repo.gone else ""
        return page(_document("A GitHub to test against", f"<h1>A GitHub to test against</h1><ul>{lines}</ul>"))

    def _conversation(self, full_name: str, kind: str, number: int) -> Answer:
        repo = self._world.repo(full_name)
        issue = repo.issues[number]
        right = "pull" if issue.pull else "issues"
        if kind != right:
            return redirect(f"/{full_name}/{right}/{number}")
        title = f'{html.escape(issue.title)} <span class="muted">#{number}</span>'
        state = "merged" if issue.pull and issue.pull.merged_at else issue.state
        head = f'<h1>{title}</h1><p><span class="pill">{state}</span> {_about(issue)}</p>'
        first = _said(issue.author.login, issue.created_at, issue.body or "*No description.*", [])
        talk = "".join(_comment(c) for c in repo.comments.values() if c.number == number)
        checks = _checks(repo, issue.pull.head_sha) if issue.pull else ""
        return page(_document(f"{issue.title} · {full_name}", head + first + talk + checks))

    def _run(self, full_name: str, number: int) -> Answer:
        run = self._world.repo(full_name).checks[number]
        output = run.output
        text = "\n\n".join(str(output.get(name) or "") for name in ("summary", "text"))
        notes = "".join(
            f"<li><code>{html.escape(note['path'])}:{note['start_line']}</code> {note['annotation_level']}: "
            f"{html.escape(note['message'])}</li>"
            for note in run.annotations
        )
        head = f"<h1>{_sign(run.conclusion or run.status)} {html.escape(run.name)}</h1>{_buttons(run)}"
        body = f"{head}<h2>{html.escape(output.get('title') or '')}</h2>{render(text)}<ul>{notes}</ul>"
        return page(_document(run.name, body))


def _about(issue: Issue) -> str:
    if issue.pull is None:
        return f"opened by {html.escape(issue.author.login)}"
    into, of = html.escape(issue.pull.base_ref), html.escape(issue.pull.head_label)
    draft = " (draft)" if issue.pull.draft else ""
    return f"{html.escape(issue.author.login)} wants to merge <code>{of}</code> into <code>{into}</code>{draft}"


def _comment(found: Comment) -> str:
    edited = " · edited" if found.edits or found.updated_at != found.created_at else ""
    return _said(found.author.login, found.created_at, found.body, [r.content for r in found.reactions], edited)


def _said(login: str, at: float, text: str, reactions: list[str], more: str = "") -> str:
    below = f'<p class="muted">{" ".join(html.escape(name) for name in reactions)}</p>' if reactions else ""
    who = f'<header><b>{html.escape(login)}</b> <span class="muted">{iso(at)}{more}</span></header>'
    return f'<section class="comment">{who}<div>{render(text)}{below}</div></section>'


def _checks(repo: Repo, sha: str) -> str:
    rows = [
        _row(status.state, status.context, status.description or "", status.target_url)
        for status in latest(repo, sha).values()
    ]
    rows += [
        _row(run.conclusion or run.status, run.name, run.output.get("title") or "", f"/{repo.full_name}/runs/{run.id}")
        + f"<tr><td></td><td colspan=2>{_buttons(run)}</td></tr>" * bool(run.actions)
        for run in repo.checks.values()
        if run.head_sha == sha
    ]
    return f"<h2>Checks of <code>{sha[:8]}</code></h2><table>{''.join(rows)}</table>"


def _row(state: str, name: str, text: str, link: str | None) -> str:
    shown = f'<a href="{html.escape(link)}">Details</a>' if link else ""
    return f"<tr><td>{_sign(state)}</td><td><b>{html.escape(name)}</b> {html.escape(text)}</td><td>{shown}</td></tr>"


def _buttons(run: CheckRun) -> str:
    if run.status != "completed":
        return ""
    return " ".join(f'<span class="button">{html.escape(action["label"])}</span>' for action in run.actions)


def _sign(state: str) -> str:
    sign, color = _SIGNS.get(state, ("○", "#59636e"))
    return f'<span title="{html.escape(state)}" style="color:{color}">{sign}</span>'


def _document(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
