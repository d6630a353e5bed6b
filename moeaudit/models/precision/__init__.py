"""Kinds of numbers: what rounding explains, once; in which kind a model computes; that memory is not rounding."""

from .explained import Rounding as Rounding
from .explained import full as full
from .explained import is_half as is_half
from .explained import rounding as rounding
from .explained import units as units
from .memory import is_out_of_memory as is_out_of_memory
from .memory import memory_named as memory_named
from .memory import not_memory as not_memory
