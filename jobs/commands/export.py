"""`slotcar export CONFIG`: the rebuilt step as a TensorFlow SavedModel, to serve entities with their carried state."""

from __future__ import annotations

import os

from jobs.config.configuration import Config
from jobs.config.model_proof import contract_of
from lstm_core.engine_environment import prepare_environment
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject


def run(config: Config, folder: str | None = None) -> JsonObject:
    """Exports the model of `config` into `folder`, by default MODEL.savedmodel; returns what was written.

    Raises UsageError where something stands there already, ModelRefused as `score` does.
    """
    model = config.model_bytes()
    folder = os.path.abspath(folder or f"{config.model.path.removesuffix('.keras')}.savedmodel")
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise UsageError(f"{folder} exists already: move it away, or name another folder with --to.")
    contract = contract_of(config, model)
    prepare_environment(log_level=3)
    from lstm_core.step.rebatch import load_model
    from lstm_core.step.saved_model import export_step
    from lstm_core.step.tensorflow_setup import configure_devices

    configure_devices(threads=1, gpu=False)
    loaded = load_model(model, name=config.model.path, code=contract.code)
    chunk = config.step_settings(contract).chunk
    return {"folder": folder, **export_step(loaded, contract, chunk=chunk, folder=folder)}
