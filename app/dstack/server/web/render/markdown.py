"""Renders the Markdown a job wrote (its `report.md`) as HTML that can do nothing but be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

MAX_REPORT: Final = 64 * 1024
"""Characters of a report that are rendered; more is cut with a word about it."""


def render_report(text: str) -> Markup:
    """The report as HTML: no raw HTML, images become links, and links lead only to http, https and mailto."""
    cut = len(text) > MAX_REPORT
    html = _markdown().render(text[:MAX_REPORT].replace("\0", ""))
    note = "<p><em>The report is longer; the rest is not shown.</em></p>\n" if cut else ""
    return Markup(html + note)  # noqa: S704 - built by the renderer below, raw HTML is off


def is_safe_link(address: str) -> bool:
    """Whether a link leads to the web or to a mailbox, and not into this server or into a script."""
    try:
        parts = urlsplit(address.strip())
    except ValueError:
        return False
    return (parts.scheme in ("http", "https") and bool(parts.netloc)) or parts.scheme == "mailto"


class _Renderer(RendererHTML):
    """The stock renderer with the page's outline (a report's h1 is a section of the page) and harmless links."""

    def heading_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f"<h{_level(tokens[index])}>"

    def heading_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return f"</h{_level(tokens[index])}>\n"

    def link_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        if not is_safe_link(str(token.attrGet("href") or "")):
            return "<span>"
        token.attrSet("rel", "nofollow noopener noreferrer")
        token.attrSet("target", "_blank")
        return self.renderToken(tokens, index, options, env)

    def link_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</a>" if is_safe_link(str(_opening(tokens, index).attrGet("href") or "")) else "</span>"

    def image(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        token = tokens[index]
        source = str(token.attrGet("src") or "")
        words = Markup("image: {}").format(token.content or source)
        if not is_safe_link(source):
            return words
        return Markup('<a href="{}" rel="nofollow noopener noreferrer" target="_blank">{}</a>').format(source, words)

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="scroll"><table>\n'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return _cell("th", tokens[index])

    def td_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return _cell("td", tokens[index])

    def fence(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return Markup("<pre><code>{}</code></pre>\n").format(tokens[index].content)


def _level(token: Token) -> int:
    return min(6, int(token.tag[1:]) + 2)


def _opening(tokens: Sequence[Token], index: int) -> Token:
    """The `link_open` that a `link_close` ends; links do not nest in Markdown."""
    return next(tokens[at] for at in range(index, -1, -1) if tokens[at].type == "link_open")


def _cell(tag: str, token: Token) -> str:
    """Alignment is written as an inline style upstream, which our policy forbids: a class says the same."""
    side = str(token.attrGet("style") or "").rpartition(":")[2]
    return f'<{tag} class="{side}">' if side in ("right", "center") else f"<{tag}>"


def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer)
    parser.enable(["table", "strikethrough"])
    # Every address is parsed as a link, so that ours alone decides: a refused one still shows its text.
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    return parser
