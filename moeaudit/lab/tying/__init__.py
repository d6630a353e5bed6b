"""Expert Tying (arXiv 2606.16825): consecutive layers that share one bank of experts."""

from .mechanism import Tying as Tying
from .post_hoc import post_hoc_tying as post_hoc_tying
from .tie import tie as tie
from .tie import tied_groups as tied_groups
from .tie import untie as untie

__all__ = ["Tying", "post_hoc_tying", "tie", "tied_groups", "untie"]
