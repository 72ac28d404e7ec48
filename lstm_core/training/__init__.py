"""Stateful training in order."""
