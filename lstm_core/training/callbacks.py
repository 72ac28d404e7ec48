"""Keras's callbacks beside a training that Keras does not run: made by name, called at the ends of epochs, kept.

What it decides: the callbacks see the model that was given, with the weights of now and the optimizer, and may stop the
training, move the learning rate or put weights back. Events of batches are not sent: weights live in the rebuilt model,
and to copy them at every step would cost more than the step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import TypeGuard

import keras
import numpy as np

from lstm_core.contract.custom_code import first_sentence, import_module
from lstm_core.errors import SlotcarError, UsageError
from lstm_core.json_types import JsonValue
from lstm_core.nearest_name import nearest_hint
from lstm_core.training.training_settings import Kept, Plain

_OWN = ("_model", "_params", "monitor_op")
_PATHS = ("filepath", "filename", "log_dir")
_UNFIT = {
    "BackupAndRestore": "checkpoints by epoch are kept anyway",
    "ProgbarLogger": "the progress is shown anyway",
    "SwapEMAWeights": "it needs batches",
    "RemoteMonitor": "the figures of each epoch are in epochs.csv",
    "OrbaxCheckpoint": "checkpoints by epoch are kept anyway",
    "LambdaCallback": "name a class of your own as module:Class",
}


class Callbacks:
    """The callbacks of one training."""

    def __init__(
        self, specs: Sequence[Mapping[str, JsonValue]], folder: str, better: Mapping[str, str] | None = None
    ) -> None:
        """`specs` are {"name": class, **arguments}; `better` is "min" or "max" by figure. Raises `UsageError`."""
        self._made = [_make(spec, folder) for spec in specs]
        for callback in self._made:
            _resolve_mode(callback, better or {})

    def __bool__(self) -> bool:
        return bool(self._made)

    def begin(
        self, model: keras.Model, optimizer: keras.optimizers.Optimizer, *, epochs: int, kept: Sequence[Kept]
    ) -> None:
        """Training begins, or goes on from what an earlier session has `kept`."""
        model.stop_training = False
        if self._made:
            model.optimizer = optimizer
        for callback, state in zip(self._made, kept or [{}] * len(self._made), strict=True):
            logger = isinstance(callback, keras.callbacks.CSVLogger)
            if kept and logger:
                callback.append = True  # what the earlier session wrote stays
            callback.set_params({"epochs": epochs, "verbose": 0, "steps": None})
            callback.set_model(model)
            _tell(callback.on_train_begin)
            for name, value in state.items() if not logger else ():
                setattr(callback, name, value)

    def epoch_begin(self, epoch: int) -> None:
        """`epoch` counts from 0, as Keras does."""
        for callback in self._made:
            _tell(callback.on_epoch_begin, epoch)

    def epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        for callback in self._made:
            _tell(callback.on_epoch_end, epoch, dict(logs))

    def end(self) -> None:
        for callback in self._made:
            _tell(callback.on_train_end)

    def state(self) -> list[Kept]:
        """What each callback must be given back to go on: its plain attributes, but for its arguments.

        Those it is made with again; and `EarlyStopping` turns the sign of its own at the first use.
        """
        return [
            {name: value for name, value in vars(callback).items() if name not in given and _is_plain(value)}
            for callback in self._made
            for given in [{*signature(type(callback).__init__).parameters, *_OWN}]
        ]


def _tell(event: Callable[..., object], *what: int | dict[str, float]) -> None:
    try:
        event(*what)
    except Exception as error:  # a callback may do anything
        name = type(getattr(event, "__self__", event)).__name__
        raise SlotcarError(
            f"train.callbacks: {name} raised {first_sentence(error)}; mend that, or leave it out: the same command goes"
            " on behind the last epoch that was kept."
        ) from error


def _make(spec: Mapping[str, JsonValue], folder: str) -> keras.callbacks.Callback:
    name = str(spec["name"])
    kind = _class(name, folder)
    arguments = {key: _argument(key, value, folder) for key, value in spec.items() if key != "name"}
    try:
        return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(f"train.callbacks: {name} cannot be made: {first_sentence(error)}.") from None


def _resolve_mode(callback: keras.callbacks.Callback, better: Mapping[str, str]) -> None:
    """What Keras would look up in a compiled model, where a callback may choose itself what is better."""
    name = str(getattr(callback, "monitor", "")).removeprefix("val_")
    if getattr(callback, "mode", None) == "auto" and name in better:
        callback.mode = better[name]


def _argument(key: str, value: JsonValue, folder: str) -> JsonValue:
    return os.path.join(folder, value) if key in _PATHS and isinstance(value, str) else value


def _class(name: str, folder: str) -> type[keras.callbacks.Callback]:
    if name in _UNFIT:
        raise UsageError(f"train.callbacks: {name} is of no use here, since {_UNFIT[name]}; leave it out.")
    if ":" in name:
        module, _, attribute = name.partition(":")
        found = getattr(import_module(module, [folder], setting="train.callbacks"), attribute, None)
    else:
        found = getattr(keras.callbacks, name, None)
    if isinstance(found, type) and issubclass(found, keras.callbacks.Callback):
        return found
    known = [key for key in dir(keras.callbacks) if key[0].isupper() and key not in _UNFIT]
    raise UsageError(
        f"train.callbacks: {name!r} is no callback of Keras, nor module:Class of your own{nearest_hint(name, known)}; "
        f"Keras has {', '.join(known)}."
    )


def _is_plain(value: object) -> TypeGuard[Plain]:
    if isinstance(value, list):
        return all(isinstance(item, np.ndarray) for item in value)
    return value is None or isinstance(value, bool | int | float | str | np.ndarray | np.generic)
