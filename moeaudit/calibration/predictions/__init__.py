"""What was predicted and what happened: the table every score reads, and reading it from files."""
