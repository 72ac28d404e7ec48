"""`slotcar score`: a checked configuration -> a run.

Everything that can be refused is refused here, before Ray starts: the model, the features, the columns, the output.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from cluster.runtime.listing import list_files
from cluster.runtime.run import ScoreRequest, score
from cluster.runtime.schema import check_schema
from jobs.config import Config
from jobs.proving import contract_of
from jobs.report import write_at_end
from jobs.run_id import derive_run_id


@dataclass(frozen=True)
class _Listed:
    path: str
    size_bytes: int
    modified_ns: int


def run(config: Config) -> dict[str, Any]:
    """Scores what `config` asks for; returns the content of run.json, and leaves a report beside it."""
    return score(request_of(config), at_end=write_at_end)


def request_of(config: Config) -> ScoreRequest:
    """The run that `config` asks for, checked as far as files and the model's archive tell."""
    model = config.model_bytes()
    contract = contract_of(config, model)
    settings = config.input_settings(contract)
    output = config.output_settings(contract)
    files = list_files(settings)
    check_schema(settings, contract, files)
    identity = derive_run_id(config, contract.fingerprint, [_listed(path) for path in files])
    run_id = config.run_id or identity
    return ScoreRequest(
        run_id=run_id,
        identity=identity,
        run=hashlib.sha256(f"{run_id} {identity}".encode()).hexdigest()[:8],
        model=model,
        contract=contract,
        input=settings,
        step=config.step_settings(contract),
        output=output,
        cluster=config.cluster_settings(),
        quarantine_limit=config.faults.quarantine_limit,
        model_path=config.model.path,
    )


def _listed(path: str) -> _Listed:
    found = os.stat(path)
    return _Listed(path, found.st_size, found.st_mtime_ns)
