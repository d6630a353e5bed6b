"""A page's template, style and script, as the package ships them."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from .policy import policy

if TYPE_CHECKING:
    from jinja2 import Environment


def templates() -> Environment:
    """Templates that escape every word and stop at a name that is not given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("moeaudit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )


def static(name: str) -> str:
    """The text of a file beside the templates."""
    return resources.files("moeaudit.report").joinpath("static", name).read_text("utf-8")


def without_scripts() -> dict[str, Any]:
    """What a page without scripts takes besides its own words: version, policy and style."""
    from markupsafe import Markup

    from moeaudit.version import __version__

    style = static("style.css")
    return {
        "version": __version__,
        "policy": policy([], [style]).replace("script-src ", "script-src 'none'"),
        "style": Markup(style),
    }


def with_tables() -> dict[str, Any]:
    """What a page takes besides its own words whose tables sort, filter, copy and download, and which is whole
    without that script: version, policy, style and script."""
    from markupsafe import Markup

    style, script = static("style.css"), static("tables.js")
    taken = {"policy": policy([script], [style]), "script": Markup(script)}
    return without_scripts() | taken
