"""The plotting library of a page: plotly.js's official partial build for axes that are straight, packed.

Our figures are scatter, bar and heat map; `plotly.js-cartesian-dist-min` draws these and little else, in a third
of the bytes of the full build that plotly's Python package carries (docs/report.md has the numbers).
"""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib import resources

VERSION = "4.1.1"


@cache
def library() -> tuple[str, str]:
    """The library's source, and the same compressed as base64: 0.66 instead of 1.5 MB in the page."""
    packed = resources.files("moeaudit.report").joinpath(
        "static", f"plotly-cartesian-{VERSION}.min.js.gz"
    )
    data = packed.read_bytes()
    return gzip.decompress(data).decode("utf-8"), base64.b64encode(data).decode("ascii")
