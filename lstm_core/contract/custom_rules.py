"""Rules for code that is not Keras's own: what it does is not known here, so it is proved later, or refused.

A custom layer, cell or function is admitted when it is registered for serialization and `model.modules` names its
module. The walk then believes the shapes that the archive shows; whether a score depends on where a chunk begins is
found by `chunk_proof`, before a run starts.
"""

from __future__ import annotations

from dataclasses import replace

from lstm_core.contract.symbolic_tensors import Call, Tensor, tensors_of
from lstm_core.json_types import JsonObject, JsonValue


def is_builtin(spec: JsonObject) -> bool:
    """Whether a layer or cell is Keras's own: a user's class may bear the same name."""
    return str(spec.get("module") or "").split(".")[0] == "keras" and ">" not in str(spec.get("registered_name") or "")


def apply_custom(call: Call) -> tuple[Tensor, ...]:
    """The tensors that a custom layer gives: those that the layers behind it take, else one like its first input."""
    admit_custom(call, "is custom code", registered=">" in str(call.spec.get("registered_name") or ""))
    given = list(tensors_of([call.args, call.kwargs]))
    like = next((tensor for tensor in given if tensor.timed), given[0]).computed()
    made = {index: replace(like, shape=tensor.shape, dtype=tensor.dtype) for index, tensor in call.promised.items()}
    return tuple(made.get(index, like) for index in range(max(made, default=0) + 1))


def admit_custom(call: Call, does: str, *, registered: bool) -> None:
    """Note that a layer must be proved; refuse it where its code cannot be found. `does` completes "layer X ..."."""
    if not registered:
        call.refuse(
            f"{does} that is not registered with Keras",
            "decorate it with @keras.saving.register_keras_serializable(package='...'), save the model again, and name"
            " the module in model.modules",
        )
    if not call.trace.code.modules:
        call.refuse(
            f"{does}, and no module is named that registers it",
            "name it in model.modules, or to inspect as --module",
        )
    if call.name not in call.trace.unproved:
        call.trace.unproved.append(call.name)


def is_custom_function(value: JsonValue) -> bool:
    """Whether an activation is a user's function."""
    return isinstance(value, dict) and value.get("class_name") == "function"


def is_registered_function(value: JsonObject) -> bool:
    return ">" in str(value.get("config"))
