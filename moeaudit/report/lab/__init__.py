"""The page of a training's curves."""

from .curves import write_curves as write_curves
