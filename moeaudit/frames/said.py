"""`Said`: a table that says in a sentence what it found, above the columns that matter."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from .shown import paragraph


class Said(pd.DataFrame):
    """A DataFrame that shows a sentence above the columns that matter; `pandas.DataFrame(table)` is the plain one.

    A selection that lacks what the sentence needs, and any table that is made from it, shows itself as pandas
    shows tables. Nothing else is different: every operation of pandas is its own.
    """

    # What the sentence needs, and what is shown under it.
    _needs: ClassVar[tuple[str, ...]] = ()
    _matters: ClassVar[tuple[str, ...]] = ()

    @property
    def _constructor(self) -> type[Said]:
        return type(self)

    def _sentence(self) -> str | None:
        """What the table says, or None where it cannot say it."""
        return None

    def _told(self) -> str | None:
        if self.columns.nlevels > 1 or not self.columns.is_unique or not len(self):
            return None
        return self._sentence() if set(self._needs) <= set(self.columns) else None

    def _short(self) -> tuple[Any, str]:
        """The columns that matter and hold anything, as pandas' own table; how many are not among them."""
        plain: Any = pd.DataFrame(self)
        kept = [n for n in self._matters or plain.columns if n in plain and plain[n].notna().any()]
        hidden = len(plain.columns) - len(kept)
        return plain[kept], f"and {hidden} more columns: list(table)" if hidden else ""

    def __repr__(self) -> str:
        sentence = self._told()
        if sentence is None:
            return super().__repr__()
        plain, hidden = self._short()
        return "\n".join(filter(None, [sentence, repr(plain), hidden]))

    def _repr_html_(self) -> str | None:
        sentence = self._told()
        if sentence is None:
            return super()._repr_html_()  # type: ignore[operator]
        plain, hidden = self._short()
        shown = plain._repr_html_()
        if shown is None:  # pandas was told to show no HTML
            return None
        return paragraph(sentence) + shown + (paragraph(hidden) if hidden else "")
