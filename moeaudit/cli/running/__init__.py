"""Commands that compute: they load a model or a table, and leave something behind."""
