"""An expert's card and a token browser in the cell of a notebook: HTML without scripts, and the same as plain text."""

from .browser import show_tokens as show_tokens
from .card import expert as expert
