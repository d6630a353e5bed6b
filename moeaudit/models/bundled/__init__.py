"""The models that come with the package: small, trained, and honest about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
TOKENIZER = _HERE / "tokenizer"


def bundled_models() -> list[str]:
    """Names that `moeaudit.load` knows without a network, e.g. `tiny-olmoe`."""
    return sorted(path.parent.name for path in _HERE.glob("*/model.safetensors"))


def bundled_folder(name: str) -> Path:
    """The folder of a bundled model, in hub layout."""
    return _HERE / name


def bundled_figures(name: str) -> dict[str, Any]:
    """The measured figures on the model's card; empty if the card has none."""
    path = bundled_folder(name) / "figures.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
