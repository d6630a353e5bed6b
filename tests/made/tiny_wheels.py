"""Tiny wheels made by hand, in the layout of the real ones."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from zipfile import ZipFile


def wheel(members: dict[str, str | bytes], path: Path | None = None) -> ZipFile:
    """A zip with these members, open for reading."""
    target = io.BytesIO() if path is None else path
    with ZipFile(target, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return ZipFile(target)


def prose(words: str, length: int) -> str:
    """Paragraphs of sentences made of `words`, `length` characters or a little more."""
    paragraphs: list[str] = []
    size = 0
    while size <= length:
        n = len(paragraphs)
        paragraphs.append(" ".join(f"{words} {n} {k} end." for k in range(4)))
        size += len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs)


BIBLE = '''
from nowhere import Bible, Version  # importing this module would fail
raise RuntimeError("the module was executed")
bible = Bible(
    Version.KING_JAMES,
    """
In the beginning [was] one. And two.
And three.
Another chapter begins.
""",
    {1001001: 1, 1001002: 30, 1001003: 38, 1002001: 49},
    {1001001: 29, 1001002: 37, 1001003: 48, 1002001: 72},
)
'''

ICD = """<?xml version="1.0"?><ICD10CM.tabular><version>2026</version>
<chapter><name>1</name><desc>Infections (A00-B99)</desc>
 <sectionIndex><sectionRef first="A00" last="A09" id="A00-A09">x</sectionRef></sectionIndex>
 <section id="A00-A09"><desc>Intestinal (A00-A09)</desc>
  <diag><name>A00</name><desc>Cholera</desc><excludes1><note>carrier (Z22)</note></excludes1>
   <diag><name>A00.0</name><desc>Classical
     cholera</desc><inclusionTerm><note>Old cholera</note></inclusionTerm></diag></diag>
  <diag><name>A01</name><desc>Typhoid</desc></diag>
 </section></chapter></ICD10CM.tabular>"""

SERVICE = {
    "operations": {
        "Send": {
            "documentation": "<p>Sends &lt;one&gt; thing.</p><p>Then stops.</p>",
            "input": {"shape": "SendInput"},
        },
        "Get": {"documentation": "<p>Gets.</p>", "input": {"shape": "SendInput"}},
    },
    "shapes": {
        "SendInput": {
            "type": "structure",
            "members": {"Name": {"shape": "Text", "documentation": "<p>The name.</p>"}},
        },
        "Text": {"type": "string"},
    },
}


def service() -> bytes:
    return gzip.compress(json.dumps(SERVICE).encode())


def licence_file(key: str, category: str, text: str, extra: str = "") -> str:
    return f"---\nkey: {key}\ncategory: {category}\n{extra}other_urls:\n    - x\n---\n\n{text}\n"
