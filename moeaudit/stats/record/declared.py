"""What is declared before it is done: frozen fields as one line of JSON, hashed and compared.

An audit's spec and an analysis' spec are both held against what was asked before, so both must be
written down the same way on every platform.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any


class Declared:
    """A base for frozen dataclasses whose every field counts.

    Fields are plain values, tuples, mappings with text as keys, and dataclasses of these.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; tuples become lists. Raises ValueError for NaN and infinity."""
        assert dataclasses.is_dataclass(self)
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))

    def canonical(self) -> str:
        """One line of JSON, sorted by name and without spaces: the same for equal declarations."""
        return json.dumps(
            self.to_dict(),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        )

    @property
    def hash(self) -> str:
        """SHA-256 of `canonical()`, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def differences(self, other: Declared) -> list[tuple[str, Any, Any]]:
        """The fields that differ, as (field, value here, value in `other`), in field order."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [(key, mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]]
