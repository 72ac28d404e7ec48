"""Processes that end on purpose, at a known point of a run."""
