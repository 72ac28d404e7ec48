"""The table of the models' guide: every layer, operation and activation that is fit, with what it must leave alone.

It is made of the tables that the rules themselves read, so that what it lists is what is taken. Printed by
`python -m lstm_core.contract.rule_table`; a test holds the guide to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from lstm_core.contract import activation_rules, layer_rules, operation_rules
from lstm_core.contract.feature_rules import INSIDE_A_ROW
from lstm_core.contract.graph_walk import MODELS
from lstm_core.contract.recurrent_rules import KINDS

# What must hold, by layer, where it is more than that the layer is one of Keras's own.
LAYERS = {
    "Concatenate": "joins along features",
    "Conv1D": "`kernel_size=1` and `strides=1`; any inside `TimeDistributed`",
    "Dense": "",
    "Discretization": "`output_mode='int'`",
    "EinsumDense": "batch and time stay first in its equation, and in no kernel",
    "Embedding": "its input is codes",
    "Flatten": "inside `TimeDistributed`, or on values per entity or window",
    "PReLU": "`shared_axes=[1]`",
    "Permute": "inside `TimeDistributed`, or on values per entity or window",
    "RepeatVector": "on values per entity, in a model of fixed length",
    "Rescaling": "`scale` and `offset` are single numbers",
    "Reshape": "inside `TimeDistributed`, or on values per entity or window",
}
OPERATIONS = {
    "Cast": "to float32, whole numbers or bool",
    "Concatenate": "along features",
    "ExpandDims": "behind time",
    "GetItem": "selects features: slices and whole numbers",
    "OneHot": "its axis is behind time",
    "Squeeze": "axes behind time",
    "Stack": "along a new axis behind time",
}
HEADER = ("| kind | names | what must hold |", "| --- | --- | --- |")


def rule_table() -> list[str]:
    """The table's lines, in Markdown."""
    assert LAYERS.keys() == (layer_rules.RULES.keys() - INSIDE_A_ROW) | {"Conv1D"}
    assert OPERATIONS.keys() == operation_rules.RULES.keys()
    return [
        *HEADER,
        _line("recurrent layer", KINDS, "reads forward, from zero state"),
        _line("nested model", MODELS - {"Model"}, "not subclassed"),
        _line("wrapper", {"TimeDistributed", "SpectralNormalization"}, "around a layer of this table"),
        _line("layer", layer_rules.SAME_SHAPE, ""),
        _line("layer", layer_rules.MERGES, "tensors of one rank; of values per entity the axis of time is 1"),
        _line("layer", layer_rules.NORMALISES_OVER, "over features, as `axis=-1`"),
        _line("layer", layer_rules.ONE_SCALE_PER_PLACE, "no scale of its own for each place in time"),
        *(_line("layer", [name], rule) for name, rule in LAYERS.items()),
        _line("layer", INSIDE_A_ROW - {"Conv1D"}, "inside `TimeDistributed`"),
        _line("operation", operation_rules.ELEMENTWISE | operation_rules.TESTS, "as for `Add`"),
        _line("operation", operation_rules.REDUCTIONS | operation_rules.ALONG_AXIS, "over features, as `axis=-1`"),
        _line("operation", operation_rules.LIKE, ""),
        _line("operation", ["Split"], "along features"),
        *(_line("operation", [name], rule) for name, rule in OPERATIONS.items()),
        _line("activation", activation_rules.ACTIVATIONS | activation_rules.LAYERS, ""),
        _line("activation", activation_rules.ALONG_LAST_AXIS, "over features"),
    ]


def _line(kind: str, names: Iterable[str], rule: str) -> str:
    listed = ", ".join(f"`{name}`" for name in sorted(names, key=lambda name: (name.lower(), name)))
    return f"| {kind} | {listed} | {rule or '-'} |"


if __name__ == "__main__":
    print("\n".join(rule_table()))
