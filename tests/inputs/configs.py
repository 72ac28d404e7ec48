"""Sections of a job's TOML, for series as `tests.inputs.series` makes them."""

from __future__ import annotations

IN = """
[input]
path = "in"
entity = ["entity"]
time = ["time"]
features = ["f0", "f1", "f2"]
"""
IN_AND_OUT = f"""{IN}[output]
path = "out"
"""
