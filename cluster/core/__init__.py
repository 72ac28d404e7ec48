"""Decisions only: no clock, no file, no Ray, no TensorFlow."""
