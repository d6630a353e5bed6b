"""The effects table: what each counterfactual did, one row each, always the same columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames.said import Said
from moeaudit.store.shard import KEY

from .facts import Facts, NoFacts, Told, joined

if TYPE_CHECKING:
    from moeaudit.text import Chunk, TokenizedCorpus

    from .operators.routing import Operator
    from .walk.plan import Walked

COLUMNS = {
    "document": "int32",
    "position": "int32",
    "layer": "int16",
    "rank": "int8",
    "expert": "int16",
    "weight": "float32",
    "delta_nll": "float32",
    "kl": "float32",
    "flip": "bool",
}

TOP = "top"  # the most probable next token after the edit, an int32 token id, where it is asked for


class Effects(Told, Said):
    """A DataFrame of effects that knows its question and which texts it was measured on.

    One row for each (document, position, layer, rank): `rank` 0 is the active expert with the
    largest weight; `position` t is the edited token and outcomes are read on the prediction of
    token t + 1; `delta_nll` and `kl` are in nats; `flip` says that the top prediction changed.

    `question` is what was asked, `engine` what computed it, `notes` what was left out, `drift` how far
    rows without an edit end from the clean forward, nats; they stay with a selection, a copy, a
    merge, a pickle, a file (`to_parquet`, and back with `moeaudit.effects`) and with tables of the
    same question joined by `pd.concat`. Where tables of different questions were joined they are
    gone, and reading them says so (InputError). `texts` is the tokenised corpus and `operator` the
    operator itself, or None where they did not come along, as after reading from a file.
    """

    _needs = ("document", "position", "delta_nll")
    _metadata = ["texts", "operator"]
    texts: TokenizedCorpus | None = None
    operator: Operator | None = None

    @property
    def _constructor(self) -> type[Effects]:
        return Effects

    @staticmethod
    def of(
        frame: pd.DataFrame,
        facts: Facts,
        texts: TokenizedCorpus | None = None,
        operator: Operator | None = None,
    ) -> Effects:
        """Wrap a frame that has the columns of COLUMNS."""
        effects = Effects(frame)
        effects.attrs = dict(frame.attrs) | {KEY: facts.to_dict()}
        effects.texts, effects.operator = texts, operator
        return effects

    def _sentence(self) -> str | None:
        """What was asked, of how much, by which engine, and what came out on average; None if that is not known."""
        try:
            facts = self.facts
        except InputError:
            return None
        plain: Any = self
        harm = float(plain["delta_nll"].mean())
        return said_of(facts, len(plain), int(plain["document"].nunique()), harm)

    @property
    def facts(self) -> Facts:
        """Everything that is known about how the table was measured. Raises InputError if nothing is."""
        said = self.attrs.get(KEY)
        if said is None:
            raise NoFacts(
                "This table of effects does not say what was asked: it was made from columns alone. Keep the table "
                "that ablate() returned, or open its folder or file with moeaudit.effects(...)."
            )
        return Facts.from_dict(said)

    def __finalize__(self, other: Any, method: str | None = None, **kwargs: Any) -> Effects:  # pyright: ignore
        """pandas' own hook for what goes along with a table; joins are its only hard case."""
        super().__finalize__(other, method=method, **kwargs)
        if isinstance(other, (pd.DataFrame, pd.Series)):
            return self
        # pandas 3 hands over `input_objs`, pandas 2 `objs` of a concat or both sides of a merge.
        parts = getattr(other, "input_objs", None) or getattr(other, "objs", None)
        if parts is None and hasattr(other, "left"):
            parts = [other.left, other.right]
        if parts is not None:
            _join(self, list(parts), rows=method == "concat")
        return self


def said_of(facts: Facts, rows: int, documents: int, harm: float) -> str:
    """The sentence of a table of effects; harm in nats."""
    of = f"{documents:,} document{'s' * (documents != 1)}, mean harm {harm:+.4f} nats"
    n = len(facts.notes)
    notes = f" {n} note{'s' * (n != 1)} (.notes)." if n else ""
    return f"{rows:,} effects of {facts.question} in {of}; {facts.engine}.{notes}"


def _join(whole: Effects, parts: list[Any], *, rows: bool) -> None:
    """Give a table that was joined from `parts` what they have in common."""
    told = [part for part in parts if part.attrs.get(KEY)]
    if not told:
        return
    said: list[Mapping[str, Any] | None] = [part.attrs[KEY] for part in told]
    stacked = rows and len(whole) == sum(map(len, parts))
    if stacked and any(len(part) and not part.attrs.get(KEY) for part in parts):
        said.append(None)
    whole.attrs = {**whole.attrs, KEY: said[0] if len(said) == 1 else joined(said)}
    one = "mixed" not in whole.attrs[KEY]
    texts = [part.texts for part in told if isinstance(part, Effects) and part.texts is not None]
    operators = [part.operator for part in told if isinstance(part, Effects)]
    same_texts = len(texts) == len(told) and whole.attrs[KEY].get("texts") is not None
    whole.texts = texts[0] if one and same_texts else None
    same_operator = len(operators) == len(told) and all(op is operators[0] for op in operators)
    whole.operator = operators[0] if one and same_operator else None


def walked_frame(chunk: Chunk, walked: Walked) -> pd.DataFrame:
    """The table of one chunk, sorted by (position, layer, rank)."""
    positions, rows = walked.rank.shape
    at = walked.positions.cpu().numpy() + chunk.start
    columns: dict[str, Any] = {
        "document": np.full(positions * rows, chunk.document),
        "position": np.repeat(at, rows),
        "layer": np.broadcast_to(walked.layer.cpu().numpy(), (positions, rows)).reshape(-1),
        "rank": walked.rank.cpu().numpy().reshape(-1),
        "expert": walked.expert.cpu().numpy().reshape(-1),
        "weight": walked.weight.float().cpu().numpy().reshape(-1),
        "delta_nll": walked.outcomes.delta_nll.cpu().numpy().reshape(-1),
        "kl": walked.outcomes.kl.cpu().numpy().reshape(-1),
        "flip": walked.outcomes.flip.cpu().numpy().reshape(-1),
    }
    frame = pd.DataFrame(
        {name: np.asarray(columns[name]).astype(kind) for name, kind in COLUMNS.items()}
    )
    if walked.outcomes.top is not None:
        frame[TOP] = walked.outcomes.top.cpu().numpy().reshape(-1).astype("int32")
    # Further outcomes, and what an operator says of its rows besides.
    for name, values in (walked.outcomes.extra | walked.about).items():
        frame[name] = values.cpu().numpy().reshape(-1)
    return frame
