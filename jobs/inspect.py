"""`slotcar inspect MODEL.keras`: the model's contract as tables, or as one JSON object.

A model that is unfit for scoring in chunks is refused by `lstm_core.contract` or, where only its scores tell, by
`lstm_core.proof`, which loads it in a process of its own. Their sentences say why.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from jobs.proving import Prove, prove_apart
from lstm_core.code import CustomCode
from lstm_core.contract import InputContract, ModelContract, RecurrentContract, read_contract
from lstm_core.errors import UsageError
from lstm_core.proof_request import ProofRequest

PROOF_CHUNK = 64  # where the model leaves it open: the default of model.chunk


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found."""

    model: str  # the path as given
    contract: ModelContract

    def as_dict(self) -> dict[str, Any]:
        """The contract as plain values, for JSON; sizes in bytes, cost in floating point operations."""
        contract = self.contract
        return {
            "model": self.model,
            "fit": True,
            **asdict(contract),
            "score_names": list(contract.score_names),
            "state_bytes_per_slot": contract.state_bytes,
        }

    def render(self) -> RenderableType:
        """The contract as tables for a terminal."""
        return Group(self._head(), self._inputs(), self._outputs(), self._recurrent())

    def _head(self) -> Table:
        contract = self.contract
        table = Table(title=f"{self.model}: fit for scoring in chunks", title_justify="left", show_header=False)
        table.add_row("parameters", f"{contract.parameters:,}")
        table.add_row("state per slot", f"{contract.state_bytes:,} bytes")
        table.add_row("FLOP per row", f"{contract.flop_per_row:,}")
        table.add_row("chunk", _fixed(contract.chunk, "timesteps"))
        table.add_row("batch", _fixed(contract.batch, "as saved; a run sets its own slots"))
        table.add_row("fingerprint", contract.fingerprint)
        return table

    def _inputs(self) -> Table:
        table = _table("input", "kind", "shape", "type", "columns", "vocabulary")
        for item in self.contract.inputs:
            known = "" if item.vocabulary is None else f"{item.vocabulary:,}"
            table.add_row(item.name, item.kind, _shape(item), item.dtype, str(item.columns), known)
        return table

    def _outputs(self) -> Table:
        table = _table("output", "scores per row", "names")
        for item in self.contract.outputs:
            table.add_row(item.name, str(item.values), ", ".join(item.names))
        return table

    def _recurrent(self) -> Table:
        table = _table("stateful layer", "kind", "state shapes per slot", "saved as")
        for item in self.contract.recurrent:
            table.add_row(item.name, item.kind, _states(item), "stateful" if item.stateful else "stateless")
        return table


def run(path: str | Path, modules: tuple[str, ...] = (), prove: Prove = prove_apart) -> Inspection:
    """The contract of the model at `path`, proved. Raises UsageError without a file, ModelRefused where it is unfit."""
    try:
        blob = Path(path).read_bytes()
    except OSError as fault:
        raise UsageError(
            f"Model '{path}' cannot be read ({fault.strerror}): expected a .keras file; check the path."
        ) from fault
    folders = (os.path.dirname(os.path.abspath(path)), os.getcwd()) if modules else ()
    contract = read_contract(blob, name=str(path), code=CustomCode(modules, folders))
    return Inspection(str(path), prove(ProofRequest(blob, contract, str(path), PROOF_CHUNK)))


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    return table


def _fixed(size: int | None, meaning: str) -> str:
    return "open" if size is None else f"{size} {meaning}"


def _shape(item: InputContract) -> str:
    return "(slot, step)" if item.rank == 2 else f"(slot, step, {item.columns})"


def _states(item: RecurrentContract) -> str:
    return ", ".join(str(list(shape)) for shape in item.state_shapes)
