"""Rules for activations, of layers and in recurrent cells: they see one value at a time, or the features of one row.

An activation is a name, a layer in the place of a function, or a function of the user's own, which is proved later.
"""

from __future__ import annotations

from lstm_core.contract.custom_rules import admit_custom, is_builtin, is_custom_function, is_registered_function
from lstm_core.contract.operation_rules import check_axes
from lstm_core.contract.symbolic_tensors import Call, words
from lstm_core.json_types import JsonValue

# Activations that see one value at a time, or the last axis only.
ACTIVATIONS = words(
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid"
    " mish relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus swish tanh"
    " tanh_shrink threshold"
)
ALONG_LAST_AXIS = words("log_softmax softmax sparsemax")
LAYERS = words("ELU LeakyReLU ReLU")  # that may stand in the place of a function


def is_activation_layer(activation: JsonValue) -> bool:
    """Whether an activation is one of Keras's layers that see one value at a time."""
    return isinstance(activation, dict) and is_builtin(activation) and activation.get("class_name") in LAYERS


def check_activation(call: Call) -> None:
    """Refuse a function that may mix rows: a custom one, or one along time."""
    activation = call.config.get("activation")
    if activation is None or (isinstance(activation, str) and activation in ACTIVATIONS):
        return
    if is_activation_layer(activation):
        return
    if is_custom_function(activation):
        admit_custom(
            call, f"has the custom activation {activation['config']}", registered=is_registered_function(activation)
        )
        return
    if not isinstance(activation, str) or activation not in ALONG_LAST_AXIS:
        found = activation.get("class_name") if isinstance(activation, dict) else activation
        call.refuse(
            f"has the activation {found}, which is not known to keep the rows of a series apart",
            f"use one that 'slotcar guide models' lists, or put {found} behind the layer as a layer of its own",
        )
    check_axes(call, (call.tensor.rank - 1,), does="applies softmax over")
