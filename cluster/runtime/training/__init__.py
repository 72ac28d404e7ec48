"""Stateful training in an actor, and its checkpoints."""
