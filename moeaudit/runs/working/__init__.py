"""One process at work on a run folder: whose it is, what is recorded, which stages are done."""
