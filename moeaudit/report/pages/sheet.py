"""The page of an analysis script: answer, figures, tables, how to make it again. No scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from markupsafe import Markup, escape

from ..figures.figure import Figure
from .policy import policy

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="moeaudit {version}">
<title>{title}</title><style>{style}</style></head>
<body><div class="sheet"><h1>{title}</h1><p class="headline">{headline}</p>
{body}
<footer><p>{command}</p><p>moeaudit {version}</p></footer></div></body></html>
"""


@dataclass
class Sheet:
    """A page that is put together from top to bottom.

    `headline` is the answer in one sentence, `command` what was typed to get it. Everything that
    is not `Markup` is escaped.
    """

    title: str
    headline: str
    command: str
    body: list[Markup] = field(default_factory=list)

    def heading(self, words: str) -> None:
        self.body.append(Markup("<h2>{}</h2>").format(words))

    def paragraph(self, words: str | Markup) -> None:
        self.body.append(Markup("<p>{}</p>").format(words))

    def points(self, sentences: list[str]) -> None:
        """A list of findings."""
        items = Markup("").join(Markup("<li>{}</li>").format(s) for s in sentences)
        self.body.append(Markup("<ul>{}</ul>").format(items))

    def figure(self, figure: Figure) -> None:
        """Drawing, caption and, folded away, the numbers behind it."""
        self.heading(figure.title)
        self.body.append(Markup('<p class="caption">{}</p>').format(figure.caption))
        self.body.append(Markup('<div class="scroll">{}</div>').format(figure.drawing))
        self.body.append(figure.table)

    def table(self, table: Markup) -> None:
        self.body.append(table)

    def write(self, path: Path) -> Path:
        """Write the page; returns `path`."""
        from moeaudit.version import __version__

        static = resources.files("moeaudit.report").joinpath("static", "style.css")
        style = static.read_text("utf-8")
        page = Markup(_PAGE).format(
            policy=policy([], [style]).replace("script-src ", "script-src 'none'"),
            version=__version__,
            title=self.title,
            headline=self.headline,
            style=Markup(style),
            body=Markup("\n").join(self.body),
            command=Markup("<code>{}</code>").format(escape(self.command)),
        )
        path.write_text(page, encoding="utf-8")
        return path
