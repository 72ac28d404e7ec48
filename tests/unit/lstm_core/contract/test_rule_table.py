"""The table of the guide: it is the one that the rules give, and its names are Keras's."""

from __future__ import annotations

import re

import keras
from keras.src import activations, ops

from lstm_core.contract.rule_table import HEADER, rule_table
from tests.paths import ROOT

GUIDE = ROOT / "jobs/guides/models.md"


def named(*kinds: str) -> list[str]:
    """All names that the table has for such kinds."""
    lines = [[cell.strip() for cell in line.split("|")] for line in rule_table()[2:]]
    return [name for _, kind, names, *_ in lines if kind in kinds for name in re.findall(r"`(\w+)`", names)]


def test_the_guide_has_the_table_that_the_rules_give() -> None:
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    begin = lines.index(HEADER[0])
    end = lines.index("", begin)
    assert lines[begin:end] == rule_table(), "print it with python -m lstm_core.contract.rule_table"


def test_every_layer_and_activation_of_the_table_is_one_of_keras() -> None:
    kinds = named("layer", "recurrent layer", "wrapper")
    assert len(kinds) > 40
    assert [name for name in kinds if not hasattr(keras.layers, name)] == []
    functions = {**vars(keras.layers), **vars(keras.activations)}
    assert [name for name in named("activation") if name not in functions] == []


def test_every_operation_of_the_table_is_one_of_keras() -> None:
    modules = [one for one in (*vars(ops).values(), *vars(activations).values()) if hasattr(one, "__dict__")]
    known = {name for module in modules for name in vars(module)}
    assert [name for name in named("operation") if name not in known] == []
