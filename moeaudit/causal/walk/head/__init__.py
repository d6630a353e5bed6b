"""From the last decoder layer's output to outcomes: `tail` runs the model's own code, `roads` picks how to measure."""

from .roads import row_outcomes as row_outcomes
from .tail import last_logits as last_logits
from .tail import layer_arguments as layer_arguments
from .tail import tail_logits as tail_logits
