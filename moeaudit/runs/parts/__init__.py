"""A census in parts: groups of documents, which part does which, workers, and putting parts together."""
