"""Queries: which pairs of clips are worth a labeller's time."""
