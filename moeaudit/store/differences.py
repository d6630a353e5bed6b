"""What differs between a question there and one here, said as a person reads it: hashes last, and in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# What changes with the documents or the weights, whoever changed them.
_HASHES = {
    "weights": "the model's weights",
    "text": "the text",
    "texts": "the texts",
    "metric_text": "the metric documents",
    "effect_text": "the effect documents",
    "shift_text": "the text of other domains",
    "plan": "the plan",
}
# A hash is not said where a count says already why it differs.
_COUNTED = {
    "metric_text": "metric_documents",
    "effect_text": "effect_documents",
    "shift_text": "shift_documents",
}


def told(
    different: Iterable[tuple[str, Any, Any]], there: str = "there", here: str = "here"
) -> str:
    """Fields as (name, value there, value here) in one line; `there` and `here` name the two places."""
    found = list(different)
    names = {name for name, _, _ in found}
    said, hashes = [], []
    for name, old, new in found:
        if name in _HASHES and (_hashed(old) or _hashed(new)):
            if _COUNTED.get(name) not in names:
                was, now = (str(value or "none")[:12] for value in (old, new))
                hashes.append(f"the hash of {_HASHES[name]} is {was} {there} and {now} {here}")
        else:
            said.append(f"{name} is {old!r} {there} and {new!r} {here}")
    return "; ".join([*said, *hashes])


def _hashed(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
