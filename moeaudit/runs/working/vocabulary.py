"""The text of every token of the model's vocabulary, so that predictions can be read where there is no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moeaudit.store.files import write_table

if TYPE_CHECKING:
    from moeaudit.models import Model

VOCABULARY = "vocabulary.parquet"


def write_vocabulary(folder: Path, model: Model) -> list[str]:
    """Write token ids and their texts, unless they are there; the names of the files that were written.

    A model without a tokenizer has no texts, and no such file.
    """
    import numpy as np
    import pandas as pd

    from moeaudit.observe.capture import PieceCache

    if model.tokenizer is None or (folder / VOCABULARY).is_file():
        return []
    ids = np.arange(model.vocab_size)
    table = pd.DataFrame(
        {"token": ids.astype("int32"), "text": PieceCache(model.tokenizer).of(ids)}
    )
    write_table(folder / VOCABULARY, table)
    return [VOCABULARY]
