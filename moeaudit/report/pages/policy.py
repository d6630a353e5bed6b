"""The page's Content-Security-Policy: nothing from the network, no code but what is named by hash."""

from __future__ import annotations

import base64
import hashlib


def source_hash(text: str) -> str:
    """A CSP hash source for the exact text of an inline script or style."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def policy(scripts: list[str], styles: list[str]) -> str:
    """A policy under which only these inline scripts and styles run and nothing is fetched.

    The plotting library adds an empty style element and fills it by script, sets style attributes,
    and paints colour bars as data: images. None of these can fetch anything or run code.
    """
    return "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(source_hash(s) for s in scripts),
            "style-src-elem " + " ".join(source_hash(s) for s in [*styles, ""]),
            "style-src-attr 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
