"""The pool: models of named recipes and seeds, trained once into a cache folder and used often."""

from .pool import Pool as Pool
from .pool import default_folder as default_folder
from .pool import pool as pool
