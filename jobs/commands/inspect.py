"""`slotcar inspect MODEL.keras`: the model's contract as tables, or as one JSON object.

A model that is unfit for scoring in chunks is refused by `lstm_core.contract.model_contract` or, where only its scores
tell, by `lstm_core.proof.chunk_proof`, which loads it in a process of its own. Their sentences say why.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from jobs.commands.plan import scan_input
from jobs.config.configuration import Config, load_config
from jobs.config.model_proof import Prove, prove_in_subprocess
from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import InputContract, ModelContract, RecurrentContract, read_contract
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject
from lstm_core.proof.proof_request import ProofRequest

PROOF_CHUNK = 64  # where the model leaves it open: the default of model.chunk


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found."""

    model: str  # the path as given
    contract: ModelContract
    notes: tuple[str, ...] = ()  # what is worth knowing, a sentence each
    fed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # with a configuration: input -> its columns
    words: Mapping[str, int] = field(default_factory=dict)  # column -> words of its vocabulary there

    def as_dict(self) -> JsonObject:
        """The contract as plain values, for JSON; sizes in bytes, cost in floating point operations."""
        contract = self.contract
        return {
            "model": self.model,
            "fit": True,
            **asdict(contract),
            "kernels": {layer.name: _kernels(layer) for layer in contract.recurrent},
            "notes": list(self.notes),
            "score_names": list(contract.score_names),
            "state_bytes_per_slot": contract.state_bytes,
        }

    def render(self) -> RenderableType:
        """The contract as tables for a terminal."""
        return Group(self._head(), self._inputs(), self._outputs(), self._recurrent(), *self.notes)

    def _head(self) -> Table:
        contract = self.contract
        table = Table(title=f"{self.model}: fit for scoring in chunks", title_justify="left", show_header=False)
        table.add_row("parameters", f"{contract.parameters:,}")
        table.add_row("state per slot", f"{contract.state_bytes:,} bytes")
        table.add_row("FLOP per row", f"{contract.flop_per_row:,}")
        table.add_row("chunk", _fixed(contract.chunk, "timesteps"))
        table.add_row("one score per", "row" if contract.window is None else f"window of {contract.window} rows")
        table.add_row("batch", _fixed(contract.batch, "as saved; a run sets its own slots"))
        table.add_row("fingerprint", contract.fingerprint)
        return table

    def _inputs(self) -> Table:
        table = _table("input", "kind", "shape", "type", "columns", "codes")
        for item in self.contract.inputs:
            known = "" if item.vocabulary is None else f"{item.vocabulary:,}, of which 0 is for unknown words"
            table.add_row(item.name, item.kind, _shape(item), item.dtype, self._columns(item), known)
        return table

    def _columns(self, item: InputContract) -> str:
        columns = self.fed.get(item.name)
        if columns is None:
            return f"{item.columns:,}"
        words = {name: f" ({self.words[name]:,} words)" for name in columns if name in self.words}
        return f"{item.columns:,}: {', '.join(name + words.get(name, '') for name in columns)}"

    def _outputs(self) -> Table:
        table = _table("output", f"scores per {'row' if self.contract.window is None else 'window'}", "names")
        for item in self.contract.outputs:
            table.add_row(item.name, str(item.values), ", ".join(item.names))
        return table

    def _recurrent(self) -> Table:
        table = _table("stateful layer", "kind", "state shapes per slot", "saved as", "kernel on a CPU", "on a GPU")
        for item in self.contract.recurrent:
            saved, kernels = "stateful" if item.stateful else "stateless", _kernels(item)
            table.add_row(item.name, item.kind, _states(item), saved, kernels["cpu"], kernels["gpu"])
        return table


def run(
    path: str | Path, modules: tuple[str, ...] = (), config: str | None = None, prove: Prove = prove_in_subprocess
) -> Inspection:
    """The contract of the model at `path`, proved, and with a configuration whether its input is worth the state.

    Raises UsageError without a file, ModelRefused where the model is unfit.
    """
    try:
        blob = Path(path).read_bytes()
    except OSError as fault:
        raise UsageError(
            f"Model '{path}' cannot be read ({fault.strerror}): expected a .keras file; check the path."
        ) from fault
    asked = _config(config, path) if config else None
    if asked is not None and not modules:
        code = asked.code
    else:
        code = CustomCode(modules, (os.path.dirname(os.path.abspath(path)), os.getcwd()) if modules else ())
    contract = read_contract(blob, name=str(path), code=code)
    chunk = asked.step_settings(contract).chunk if asked else PROOF_CHUNK
    proved = prove(ProofRequest(blob, contract, str(path), chunk))
    if asked is None:
        return Inspection(str(path), proved, _pitfalls(proved))
    settings = asked.input_settings(proved)
    words = {column: len(known) for column, known in settings.vocabulary.items()}
    notes = (*_pitfalls(proved), _worth(asked, proved))
    return Inspection(str(path), proved, notes, dict(settings.features), words)


def _config(path: str, model: str | Path) -> Config:
    return load_config(path, [f"model.path={json.dumps(os.path.abspath(model))}"], command="inspect")


def _kernels(layer: RecurrentContract) -> dict[str, str]:
    """What runs a layer: XLA compiles the whole step; cuDNN's own kernels are for steps that it does not compile."""
    gpu = f"XLA; no cuDNN, since {layer.without_cudnn}" if layer.without_cudnn else "XLA; cuDNN with model.jit = false"
    return {"cpu": "XLA; plain with model.jit = false", "gpu": gpu}


def _pitfalls(contract: ModelContract) -> tuple[str, ...]:
    """What goes wrong with stateful models elsewhere, where this model shows it, and why it does not here."""
    notes = []
    stateful = [layer.name for layer in contract.recurrent if layer.stateful]
    if contract.batch is not None:
        notes.append(
            f"The model fixes a batch of {contract.batch}: another number of slots at inference than in training is"
            " harmless, since state is kept outside of the model and no weight depends on the batch."
        )
    elif stateful:
        notes.append(
            f"Layer '{stateful[0]}' is stateful with an open batch, for which Keras has no state to keep: here the"
            " batch is model.slots, fixed for the run."
        )
    if stateful:
        notes.append(
            f"Layer '{stateful[0]}' is saved as stateful: Keras would carry its state from one series into the next"
            " until reset_state() is called; here a slot is reset where an entity begins."
        )
        notes.append(
            "Keras's fit() shuffles its batches unless shuffle=False is given, and a carried state would go on in"
            " another series; slotcar train takes every entity's chunks in order."
        )
    return tuple(notes)


def _worth(config: Config, contract: ModelContract) -> str:
    """Whether carrying state from chunk to chunk matters for this input."""
    rows = scan_input(config.input_settings(contract), contract).entity_rows
    chunk = config.step_settings(contract).chunk
    longer = int((rows > chunk).sum())
    carried = config.document.state.read is not None or config.document.state.write is not None
    of = f"{longer:,} of {len(rows):,} entities are longer than a chunk of {chunk} rows"
    if longer or carried:
        return f"{of}{', and carry-over is used' if carried else ''}: their scores need the carried state."
    return (
        f"{of} and no carry-over is used: no state is ever carried, and a stateless model on whole series would be"
        " simpler and as good."
    )


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    return table


def _fixed(size: int | None, meaning: str) -> str:
    return "open" if size is None else f"{size} {meaning}"


def _shape(item: InputContract) -> str:
    if item.static:
        return f"(slot, {item.columns}), one per entity"
    return "(slot, step)" if item.rank == 2 else f"(slot, step, {item.columns})"


def _states(item: RecurrentContract) -> str:
    return ", ".join(str(list(shape)) for shape in item.state_shapes)
