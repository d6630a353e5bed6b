"""What a person sees on a terminal: consoles, progress, the table of verdicts."""
