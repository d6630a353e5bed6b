"""The kinds of file that predictions come in: one file of code for each."""
