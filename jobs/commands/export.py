"""`slotcar export CONFIG`: the rebuilt step as a TensorFlow SavedModel, to serve entities with their carried state."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from jobs.config.configuration import Config
from jobs.config.model_proof import contract_of
from jobs.terminal.stderr_log import native_log_dropped
from lstm_core.contract.model_contract import ModelContract
from lstm_core.engine_environment import prepare_environment
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: str
    facts: JsonObject  # what its slotcar.json says

    def as_dict(self) -> JsonObject:
        """The folder, and what its slotcar.json says, for JSON."""
        return {"folder": self.folder, **self.facts}

    def render(self) -> RenderableType:
        """Where it is and how it is called, for a terminal."""
        facts = self.facts
        table = Table(show_header=False, box=None)
        table.add_row("folder", self.folder)
        table.add_row("fingerprint", facts["model_fingerprint"])
        table.add_row(
            "rows of a call", "any number" if facts["rows_per_call"] is None else f"{facts['rows_per_call']:,}"
        )
        for title, names in (("input", facts["inputs"]), ("output", facts["outputs"]), ("state", facts["states"])):
            for name in names:
                table.add_row(title, name)
        return table


def run(config: Config, folder: str | None = None) -> Exported:
    """Exports the model of `config` into `folder`, by default MODEL.savedmodel; returns what was written.

    Raises UsageError where something stands there already, ModelRefused as `score` does.
    """
    model = config.model_bytes()
    folder = os.path.abspath(folder or f"{config.model.path.removesuffix('.keras')}.savedmodel")
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise UsageError(f"{folder} exists already: move it away, or name another folder with --to.")
    contract = contract_of(config, model)
    chunk = config.step_settings(contract).chunk
    with native_log_dropped():
        return Exported(folder, _exported(config.model.path, model, contract, chunk=chunk, folder=folder))


def _exported(path: str, model: bytes, contract: ModelContract, *, chunk: int, folder: str) -> JsonObject:
    prepare_environment(log_level=3)
    from lstm_core.step.rebatch import load_model
    from lstm_core.step.saved_model import export_step
    from lstm_core.step.tensorflow_setup import configure_devices

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    configure_devices(threads=1, gpu=False)
    loaded = load_model(model, name=path, code=contract.code)
    return dict(export_step(loaded, contract, chunk=chunk, folder=folder))
