"""Independent engines that recompute single cells of the census, to check it."""

from __future__ import annotations

from moeaudit.errors import InputError
from moeaudit.models import Model

from ..edits import CannotExpress as CannotExpress
from .base import Engine as Engine
from .base import Outcome as Outcome
from .hooks import HooksEngine as HooksEngine
from .nnsight import NNsightEngine as NNsightEngine
from .transformer_lens import TransformerLensEngine as TransformerLensEngine

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (HooksEngine, NNsightEngine, TransformerLensEngine)
}


def engine_class(name: str) -> type[Engine]:
    """The engine of that name; InputError lists the names there are."""
    if name not in ENGINES:
        raise InputError(
            f"There is no engine called {name!r}. Expected one of {', '.join(sorted(ENGINES))}."
        )
    return ENGINES[name]


def make_engine(name: str, model: Model) -> Engine:
    """An engine ready to recompute cells of this model; ModelError if it cannot."""
    return engine_class(name)(model)
