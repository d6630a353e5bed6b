"""Is it right? A second way to every number, which shares no code with the walk."""
