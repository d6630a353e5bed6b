"""How the bundled corpus is made; readers never need it."""
