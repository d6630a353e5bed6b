"""What is known of each expert and of each token, in one place: for the page, and for a cell of a notebook."""

from .data import data as data
