"""Rules for recurrent layers: which are fit, the shapes of their states, their cost.

A recurrent layer is fit when it reads forward in time and starts from the state the row before left: so no
`go_backwards` and no wired `initial_state`. With `return_sequences=False` it gives one value per window, the chunk, and
what follows has no time. A layer that is applied twice keeps a state per application: in training each of them began at
zero too.
"""

from __future__ import annotations

from dataclasses import replace

from lstm_core.contract.activation_rules import is_activation_layer
from lstm_core.contract.custom_rules import admit_custom, is_builtin, is_registered_function
from lstm_core.contract.symbolic_tensors import Call, Recurrence, Tensor, tensors_of
from lstm_core.json_types import JsonObject

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
_STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}  # LSTM: hidden, then cell
_CUDNN = {
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "use_bias": True,
    "unroll": False,
    "recurrent_dropout": 0.0,
}
KINDS = frozenset({*_GATES, "RNN"})


def apply_recurrent(call: Call) -> tuple[Tensor, ...]:
    """The sequence that the layer gives, then its final states where it returns them."""
    _check_sequence(call)
    _check_flags(call)
    _check_mask(call)
    cells = _cells(call)
    if cells is None:
        return _apply_custom_cells(call)
    states = tuple((units,) for kind, units in cells for _ in range(_STATES[kind]))
    _record(call, states)
    call.trace.flop += _flop(cells, features=call.tensor.shape[-1] or 0)
    output = _output(call, cells[-1][1])
    if not call.config.get("return_state"):
        return (output,)
    finals = (Tensor((call.tensor.shape[0], *state), timed=False, final_of=call.name) for state in states)
    return (output, *finals)


def _output(call: Call, size: int | None) -> Tensor:
    """One vector per row, or the last row's alone: one per window."""
    if call.config.get("return_sequences"):
        return call.tensor.computed((*call.tensor.shape[:2], size))
    return replace(call.tensor.computed((call.tensor.shape[0], size)), timed=False, window=True)


def _apply_custom_cells(call: Call) -> tuple[Tensor, ...]:
    """The states of a custom cell are not in the archive: `chunk_proof` adds them to the contract."""
    if _is_masked(call):
        call.refuse(
            "has a custom cell and is given a mask: what a masked row repeats is not in its state",
            "use LSTM, GRU, SimpleRNN or RNN of Keras's own cells behind a mask",
        )
    _record(call, ())
    size = call.promised.get(0, call.tensor).shape[-1]
    return (_output(call, size),)


def _check_sequence(call: Call) -> None:
    if call.tensor.static:
        call.refuse("reads one value per entity, which is no series", "apply it to the series")
    if call.tensor.window:
        call.refuse("reads one value per window, which is no series", "set return_sequences=True in the layer before")
    if not call.tensor.timed:
        call.refuse("starts anew at every row, inside TimeDistributed", "apply it to the series itself")
    if call.tensor.rank != 3 or call.tensor.shape[2] is None:
        call.refuse(
            f"reads a tensor of shape {call.tensor.shape}, not (batch, time, features) with the features fixed",
            "give it one vector per row",
        )


def _check_flags(call: Call) -> None:
    if call.config.get("go_backwards"):
        call.refuse(
            "has go_backwards=True, so a score would depend on rows that come later",
            "use go_backwards=False and train the model again",
        )


def _is_masked(call: Call) -> bool:
    return any(tensors_of(call.kwargs.get("mask")))


def _check_mask(call: Call) -> None:
    if _is_masked(call) and call.config.get("zero_output_for_mask"):
        call.refuse(
            "has zero_output_for_mask=True, and the score of a masked row repeats the one before",
            "leave it out, or multiply the layer's output by the mask's values yourself",
        )


def check_initial_state(call: Call) -> None:
    """Refuse a recurrent layer whose state is given to it: asked before anything else, since it explains the rest."""
    wired = call.args[1] if len(call.args) > 1 else None
    if call.kind in KINDS and (wired is not None or call.kwargs.get("initial_state") is not None):
        call.refuse(
            "has initial_state wired in, which would overwrite the carried state at every chunk",
            "leave initial_state out: every entity starts from a zero state",
        )


def _record(call: Call, states: tuple[tuple[int, ...], ...]) -> None:
    stateful, before = bool(call.config.get("stateful")), call.trace.recurrent.get(call.place)
    states = (*before.state_shapes, *states) if before else states
    call.trace.recurrent[call.place] = Recurrence(call.name, call.kind, states, stateful, _without_cudnn(call))


def _without_cudnn(call: Call) -> str:
    """Why cuDNN cannot run the layer (Keras asks the same); "" where it can."""
    if call.kind not in ("LSTM", "GRU"):
        return f"cuDNN has kernels for LSTM and GRU, not for {call.kind}"
    if _is_masked(call):
        return "it is given a mask, and cuDNN takes padding at the end only"
    for key, wanted in _CUDNN.items():
        found = call.config.get(key, wanted)
        if found != wanted:
            return f"{key} is {found!r}, and cuDNN has {wanted!r} only"
    if call.kind == "GRU" and not call.config.get("reset_after"):
        return "reset_after is False, and cuDNN resets after the product only"
    return ""


def _cells(call: Call) -> list[tuple[str, int]] | None:
    """(kind, units) of every cell, first to last: a plain layer is one cell. None where a cell is custom code."""
    if call.kind != "RNN":
        _check_activations(call, call.config)
        return [(call.kind, int(call.config["units"]))]
    return _flat_cells(call, call.config["cell"])


def _flat_cells(call: Call, cell: JsonObject) -> list[tuple[str, int]] | None:
    kind, config = str(cell["class_name"]), cell["config"]
    if is_builtin(cell) and kind == "StackedRNNCells":
        inner = [_flat_cells(call, spec) for spec in config["cells"]]
        known = [flat for flats in inner if flats is not None for flat in flats]
        return known if None not in inner else None
    layer = kind.removesuffix("Cell")
    if is_builtin(cell) and kind.endswith("Cell") and layer in _GATES:
        _check_activations(call, config)
        return [(layer, int(config["units"]))]
    admit_custom(call, f"has a custom cell, {kind}", registered=">" in str(cell.get("registered_name") or ""))
    return None


def _check_activations(call: Call, config: JsonObject) -> None:
    """A custom function cannot mix rows inside a cell, but without its module it cannot be loaded either."""
    for key in ("activation", "recurrent_activation"):
        if isinstance(config.get(key), dict) and not is_activation_layer(config[key]):
            name = config[key].get("config")
            admit_custom(call, f"has the custom {key} {name}", registered=is_registered_function(config[key]))


def _flop(cells: list[tuple[str, int]], *, features: int) -> int:
    flop = 0
    for kind, units in cells:
        flop += 2 * _GATES[kind] * units * (features + units)
        features = units
    return flop
