"""`ma.plot`: one function a figure. Data frames in, a plotly figure out; plotly is loaded when one is made.

Each figure has a title, units on its axes, limits where there are some, and a note that says how many rows stand
behind it and what was left out. None is larger than about 200 KB as JSON: what is larger is aggregated or cut, and the
note says so. The faces are those of the report's figures.
"""

from .contrasts import contrasts as contrasts
from .depth import depth as depth
from .harm import harm_against_metric as harm_against_metric
from .map import map as map
from .pruning import pruning as pruning
from .reliability import reliability as reliability
from .routes import routes as routes
from .tails import tails as tails

__all__ = [
    "contrasts",
    "depth",
    "harm_against_metric",
    "map",
    "pruning",
    "reliability",
    "routes",
    "tails",
]
