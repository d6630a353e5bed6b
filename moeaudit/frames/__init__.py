"""`Frame`, the tables of this package, how they show themselves, and how a long call shows how far it is.

`Frame` is a pandas DataFrame, checked as one at run time and left alone by the type checker.

pandas' own annotations say that indexing a frame may return a frame, a series or a scalar, so that
every line of table code would need a cast that says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Frame = Any
    Column = Any
else:

    def __getattr__(name: str) -> Any:
        """Loads pandas for the tables alone: the command line shows its help, and how far it is, without it."""
        if name not in __all__:
            raise AttributeError(f"module 'moeaudit.frames' has no attribute {name!r}")
        import pandas as pd

        return {"Frame": pd.DataFrame, "Column": pd.Series}[name]


__all__ = ["Column", "Frame"]
