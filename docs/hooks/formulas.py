"""A hook of mkdocs: formulas become MathML while the site is built, so that no page needs a script or a network."""

from __future__ import annotations

import html as escapes
import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $...$, \(...\), $$...$$ and \[...\].
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """The page's HTML with every formula as MathML. Raises ValueError for one that is not understood."""
    place = page.file.src_uri
    made = _FORMULA.sub(lambda found: _made(found, place), html)
    if 'class="arithmatex">\\' in made:
        raise ValueError(f"{place}: a formula of arithmatex has another form than expected here.")
    return made


def _made(found: re.Match[str], place: str) -> str:
    tag, opening, latex = found[1], found[2], escapes.unescape(found[3]).strip()
    mathml = convert(latex, display="block" if opening == "[" else "inline")
    if "\\" in mathml:  # a command that the converter does not know is left as it stands
        raise ValueError(f"{place}: the formula {latex} holds a command that is not understood.")
    return f'<{tag} class="arithmatex">{mathml}</{tag}>'
