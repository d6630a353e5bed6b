"""What is audited: loading a model, finding its MoE layers, verifying the router contract."""

from .anatomy import Anatomy as Anatomy
from .anatomy import MoELayer as MoELayer
from .bundled import bundled_figures as bundled_figures
from .bundled import bundled_models as bundled_models
from .load import load as load
from .model import Model as Model

__all__ = ["Anatomy", "Model", "MoELayer", "bundled_figures", "bundled_models", "load"]
