"""Interleaved input, brought into one order per entity before it is scored."""
