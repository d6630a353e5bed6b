"""Where a run holds: its tests by domain, and the same audit on text of other domains."""
