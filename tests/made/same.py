"""Whether two run folders hold the same tables, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path


def tables(folder: Path) -> dict[str, str]:
    """SHA-256 of every Parquet file of a run folder, by its name inside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }
