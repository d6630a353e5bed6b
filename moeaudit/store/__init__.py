"""Where a table lives: files written whole or not at all, and resumable Parquet shards."""
