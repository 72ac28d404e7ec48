"""`slotcar score`: a checked configuration -> a run.

Everything that can be refused is refused here, before Ray starts: the model, the features, the columns, the output.
"""

from __future__ import annotations

import hashlib

from cluster.core.carry import carry_schema
from cluster.core.settings import InputSettings
from cluster.runtime.carry.carry_plan import find_carry
from cluster.runtime.commit.run_request import ScoreRequest
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.input.source_faults import input_faults
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.replica.node_check import sample_files
from cluster.runtime.run.delta_output import check_delta
from cluster.runtime.run.run import score
from cluster.runtime.storage.filesystems import FileStat, stat_file
from jobs.commands.report import write_at_end
from jobs.config.configuration import Config
from jobs.config.model_proof import contract_of
from jobs.config.run_identity import derive_run_id
from lstm_core.json_types import JsonObject


def run(config: Config) -> JsonObject:
    """Scores what `config` asks for; returns the content of run.json, and leaves a report beside it."""
    return score(request_of(config), at_end=write_at_end)


def request_of(config: Config) -> ScoreRequest:
    """The run that `config` asks for, checked as far as files and the model's archive tell."""
    model = config.model_bytes()
    contract = contract_of(config, model)
    settings = config.input_settings(contract)
    output = config.output_settings(contract)
    check_delta(output)
    files = list_files(settings)
    columns = check_schema(settings, contract, files)
    schema = carry_schema(columns, settings, contract)
    carry = find_carry(config.state_settings(), schema, config.document.storage)
    listed = [_listed(path, settings) for path in files]
    identity = derive_run_id(config, contract.fingerprint, listed, carry.read_checksum if carry else None)
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
        carry=carry,
        some_files=sample_files(listed),
    )


def _listed(path: str, settings: InputSettings) -> FileStat:
    with input_faults(path):
        return stat_file(path, settings.storage)
