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
    import pandas as pd

    Frame = pd.DataFrame
    Column = pd.Series

__all__ = ["Column", "Frame"]
