"""What says that an expert may go: the package's own scores, and rankings that a user brings."""
