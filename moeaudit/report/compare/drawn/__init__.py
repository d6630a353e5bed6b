"""Two runs and their difference as drawings, still and to explore."""
