"""What a folder of a pool holds, whichever recipes made it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moeaudit.frames import Frame

from ..finished.folder import CARD, card_of, record_of
from .pool import COLUMNS, row_of


def models_in(folder: Path | str) -> Frame:
    """One row a finished model in the sub-folders of `folder`, as `Pool.models` has them; by arm and seed."""
    rows = []
    for path in sorted(Path(folder).glob(f"*/{CARD}")):
        record, card = record_of(path.parent), card_of(path.parent)
        if card is not None:
            made = record["recipe"]
            rows.append(row_of(made["name"], made["train"]["seed"], path.parent, card))
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["arm", "seed"], ignore_index=True)
