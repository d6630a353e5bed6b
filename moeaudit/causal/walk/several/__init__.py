"""Walks of more, and of less, than one document with all its rows: parts, several documents, samples."""
