"""Attacks on a run, one test each."""
