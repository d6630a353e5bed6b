"""The page of a pruning curve: its sentences, its figure, its tables."""
