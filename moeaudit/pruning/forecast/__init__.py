"""Will this model survive pruning? Signs from a census of few documents, and what they were worth on other models."""

from .forecast import Forecast as Forecast
from .forecast import forecast as forecast
from .known import Known as Known
from .known import known as known
from .signs import SIGNS as SIGNS
from .signs import Signs as Signs
from .signs import signs_of as signs_of

__all__ = ["SIGNS", "Forecast", "Known", "Signs", "forecast", "known", "signs_of"]
