"""Sections of a job's TOML, for series as `tests.series` makes them."""

from __future__ import annotations

IN_AND_OUT = """
[input]
path = "in"
entity = ["entity"]
time = ["time"]
features = ["f0", "f1", "f2"]
[output]
path = "out"
"""
