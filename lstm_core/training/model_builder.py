"""The model that training starts from, made by a user's function.

It decides where the function's module is looked for, and turns whatever goes wrong in the user's code into one
sentence. Whether the model is fit is the business of `model_contract`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import keras

from lstm_core.contract.custom_code import first_sentence, import_module
from lstm_core.errors import ModelRefused, UsageError
from lstm_core.step.rebatch import save_model


def build_model(source: str, *, folders: Sequence[str]) -> keras.Model:
    """The Keras model that `source`, "package.module:function", returns; its module is looked for in `folders` first.

    Raises `UsageError` where there is no such function, `ModelRefused` where it fails or returns something else.
    """
    module_name, _, function_name = source.partition(":")
    function = _function(import_module(module_name, folders, setting=f"train.model {source!r}"), source, function_name)
    try:
        model = function()
    except Exception as error:
        raise ModelRefused(f"train.model {source!r}: the function raised {first_sentence(error)}; mend it.") from error
    if not isinstance(model, keras.Model):
        raise ModelRefused(
            f"train.model {source!r}: expected a Keras model, but the function returned {type(model).__name__}; return "
            "keras.Model(inputs, outputs) or a keras.Sequential with its keras.Input."
        )
    if model.compiled:
        raise ModelRefused(
            f"train.model {source!r}: the function returned a compiled model, whose optimizer, loss and metrics would "
            "not be used: leave out compile(), and name them in [train]."
        )
    return model


def archive_of(model: keras.Model, *, name: str) -> bytes:
    """The `.keras` archive of a model. Raises `ModelRefused` where Keras cannot write it."""
    try:
        return save_model(model)
    except Exception as error:  # a user's own layers may raise anything
        raise ModelRefused(f"{name} cannot be saved by Keras: {first_sentence(error)}; mend it.") from error


def _function(module: ModuleType, source: str, name: str) -> Callable[[], object]:
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(
            f"train.model {source!r}: {module.__name__} has no function {name!r}; name a function without arguments "
            "that returns an uncompiled Functional model."
        )
    return function  # type: ignore[no-any-return]  # what it returns is checked where it is called
