"""Inputs that tests lay on disk."""
