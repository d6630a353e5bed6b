"""Is removing an expert from a whole bank the sum of removing it at each site? Frames only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from moeaudit.errors import InputError

from ..clustered import Clustered
from ..contrast.frames import frames_of
from .groups import groups_of

KEY = ["document", "position", "layer", "expert"]
AT = ["document", "position", "bank", "expert"]


def bank_additivity(
    bank: Any, single: Any, groups: Sequence[Sequence[int]], outcome: str = "delta_nll"
) -> pd.DataFrame:
    r"""Additivity of an expert's sites: bank effect less the sum of site effects, token by token.

    For each token and expert of a group of layers that share their experts: `bank` effect v(B), the removal at every
    site (the row of `Bank` at the first layer of the group in which the expert is active), the `sum` of v({l}) over
    the layers in which it is active (rows of `Zero`), and their `gap`. A positive gap of harm says that the sites stand
    in for each other; a negative one that one loss makes the other cheaper. With `sites` 1 a gap is what the token
    does elsewhere because of the loss: it goes to the expert at a later site where it had not gone.

    Args:
        bank: what `ablate(model, docs, Bank(groups))` returned; a frame, or a folder of effects.
        single: what `ablate(model, docs, Zero())` returned, on the same documents.
        groups: the layers of each bank, as `model.anatomy.tied` gives them.
        outcome: the column to compare.

    Returns:
        One row for each (document, position, bank, expert): `layer` (the first site), `sites`, `whole` (the bank's
        effect), `sum`, `gap`, in units of the outcome. `bank` is the group's first layer.

    Raises:
        InputError: no groups, tables that are not of the same removals, or without rows in the groups.
    """
    leader = {i: group[0] for group in groups_of(groups) for i in group}
    parts = []
    for name, table in (("bank", bank), ("single", single)):
        columns = [*KEY, outcome]
        frame = pd.concat(
            [pd.DataFrame(f) for f in frames_of(table, columns, f"The table {name!r}")]
        )
        frame = frame.loc[frame["layer"].isin(list(leader)), columns].astype({outcome: "float64"})
        parts.append(frame.sort_values(KEY, ignore_index=True))
    whole, alone = parts
    if len(whole) == 0 or not whole[KEY].equals(alone[KEY].astype(whole[KEY].dtypes.to_dict())):
        raise InputError(
            f"The two tables hold {len(whole):,} and {len(alone):,} removals in layers {sorted(leader)}, and not the "
            "same ones. Pass what ablate() returned for Bank(groups) and for Zero(), on the same documents and layers."
        )
    last = alone.groupby(KEY[:3] + ["expert"]).size().max()
    if last > 1:
        raise InputError(
            "The tables have several rows for one token, layer and expert, so which of them is the removal is not "
            "told. Pass effects of Bank and Zero."
        )
    both = alone.assign(bank=alone["layer"].map(leader), whole=whole[outcome])
    found = both.groupby(AT, sort=True).agg(
        layer=("layer", "min"),
        sites=("layer", "size"),
        whole=("whole", "first"),
        sum=(outcome, "sum"),
    )
    return found.assign(gap=found["whole"] - found["sum"]).reset_index()


def additivity_by_bank(additivity: pd.DataFrame) -> pd.DataFrame:
    """Means of `bank_additivity` by bank and number of sites, with limits by document.

    Returns:
        One row for each (bank, sites): rows, documents, and `whole`, `sum`, `gap`, each with `_low` and `_high`
        (Student's t over documents; NaN for one document).
    """
    return Clustered(["bank", "sites"], ["whole", "sum", "gap"])(additivity)
