"""`slotcar train CONFIG`: stateful training in order; writes the model to model.path.

What it decides: what is refused before a row is read, which rows are held out, that a finished epoch is not done again,
and that a model is written only when the last epoch has ended with a loss that is a number. The rows before
train.validate_since are one plan, all rows another: what is held out cannot be trained on since it is not in the first.
Everything that needs TensorFlow happens in the training actor.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa

from cluster.core.plan.shard_plan import Plan, PlanHead
from cluster.core.settings import ClusterSettings
from cluster.core.times import parse_bound
from cluster.run_errors import InputRefused, RunFailed, StoreFault
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from cluster.runtime.training.training_actor import Pass, Trainer, TrainingSpec, ray_trainer
from cluster.runtime.training.training_rows import TrainingRows, Workers, remove_shuffled
from cluster.runtime.watch.progress import progress_line
from jobs.config.configuration import Config
from jobs.training.training_record import TrainingRecord, training_folder
from jobs.training.training_report import Epoch, TrainReport
from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import ModelContract, read_contract
from lstm_core.errors import UsageError

SPLIT = "train.validate_since"
NO_KEY = "the row has no entity or no time"

OpenTrainer = Callable[[ClusterSettings], AbstractContextManager[Trainer]]


def run(config: Config, open_trainer: OpenTrainer = ray_trainer) -> TrainReport:
    """Trains what `config` asks for. Raises `UsageError` where nothing was started, `RunFailed` where it broke off."""
    begin = time.perf_counter()
    source = _source(config)
    _check_target_path(config.model.path, source=config.train.model)
    with progress_line() as line, open_trainer(config.cluster_settings()) as trainer:
        blob = trainer.load(source, _code(config), config.train.seed)
        contract = trainer.prove(read_contract(blob, name=config.train.model, code=config.code), config.model.chunk)
        spec, report, head = _prepare(config, contract, trainer)
        line.say(_opening(config, contract, spec, head))
        record = TrainingRecord(config.model.path, _identity(config, contract, head))
        earlier = None if config.train.restart else record.read()
        if earlier is not None:
            report = TrainReport(**{**earlier.report, "epochs": [Epoch(**epoch) for epoch in earlier.report["epochs"]]})
            line.say(f"{len(report.epochs)} epochs are done already: train.restart = true would begin anew")
        trainer.begin(spec, earlier.checkpoint if earlier else None)
        stopped = earlier is not None and earlier.stopped
        for number in range(len(report.epochs) + 1, config.train.epochs + 1):
            if stopped:
                break
            _epoch(trainer, spec, number, report)
            checkpoint, stopped = trainer.end_epoch(number, report.epochs[-1].logs)
            record.write(report.as_dict(), checkpoint, stopped=stopped)
            line.say(_said(report.epochs[-1], config.train.epochs) + (" · stopped by a callback" if stopped else ""))
        report.model_fingerprint = _write(config, trainer.archive())
        remove_shuffled(_place(config))
    report.seconds = time.perf_counter() - begin
    return report


def _identity(config: Config, contract: ModelContract, head: PlanHead) -> str:
    """What a training learns from: the model that it starts with, the settings, the files as they are now."""
    found = [(file.path, file.size_bytes, file.modified_ns) for file in head.input_files]
    text = json.dumps([contract.fingerprint, config.training_identity(), found], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _source(config: Config) -> bytes | str:
    """The archive to go on from, or the name of the function that makes the model."""
    source = config.train.model
    if not source.endswith(".keras"):
        return source
    try:
        blob = Path(source).read_bytes()
    except OSError as fault:
        raise UsageError(f"train.model {source} cannot be read: {fault.strerror}.") from None
    read_contract(blob, name=source, code=config.code)  # refused before anything is started
    return blob


def _code(config: Config) -> CustomCode:
    """Where the user's code lies, also that of a function that builds the model."""
    return CustomCode(config.model.modules, (config.folder, os.getcwd()))


def _check_target_path(path: str, *, source: str) -> None:
    if source.endswith(".keras") and os.path.exists(path) and os.path.samefile(source, path):
        raise UsageError(
            f"train.model and model.path are one file, {path}: the same command would train on at every call, and not "
            "do nothing once it is done; give model.path another name."
        )
    if not path.endswith(".keras"):
        raise UsageError(
            f"model.path {path} is where the trained model is written: give it a name that ends in .keras."
        )
    if os.path.isdir(path):
        raise UsageError(f"model.path {path} is a folder, and the trained model is a file: choose another name.")


def _prepare(config: Config, contract: ModelContract, workers: Workers) -> tuple[TrainingSpec, TrainReport, PlanHead]:
    settings = config.input_settings(contract, training=True)
    files = list_files(settings)
    held_from = _held_from(config, check_schema(settings, contract, files))
    taken = TrainingRows(settings, files, _place(config), workers).take(config.train.validate_since)
    if taken.whole.head.types is not None:  # where files differ, the moment counts in the unit in which they are read
        held_from = _held_from(config, taken.whole.head.types)
    _check_split(config, taken.before or taken.whole, taken.whole)
    step = config.step_settings(contract)
    train, whole = taken.passes
    spec = TrainingSpec(
        contract=contract,
        input=settings,
        step=step,
        settings=config.training_settings(),
        epochs=config.train.epochs,
        train=train,
        held_from=held_from,
        whole=whole,
    )
    head = taken.whole.head
    report = TrainReport(
        model=config.model.path,
        rows_in=head.rows_in,
        rows_skipped=head.rows_skipped,
        rows_quarantined=head.rows_bad,
        quarantined_by_reason={NO_KEY: head.rows_bad} if head.rows_bad else {},
        files_lost=head.files_lost,
        entities=head.entities,
        slots=step.slots,
        chunk=step.chunk,
    )
    return spec, report, head


def _place(config: Config) -> StoreSpec:
    """The folder of the training, where its input is clustered, too."""
    return StoreSpec(training_folder(config.model.path))


def _held_from(config: Config, columns: pa.Schema) -> int | None:
    split = config.train.validate_since
    return None if split is None else parse_bound(split, columns.field(config.input.time[0]).type, setting=SPLIT)


def _check_split(config: Config, train: Plan, whole: Plan) -> None:
    split = config.train.validate_since
    if train.head.rows_planned == 0:
        before = f" before {SPLIT} = {split}" if split else ""
        raise InputRefused(
            f"There is no row to train on{before}: {whole.head.rows_planned:,} rows are in the input's window."
        )
    if split and train.head.rows_planned >= whole.head.rows_planned:
        raise InputRefused(
            f"No row of the input's window is at or after {SPLIT} = {split}: choose an earlier moment, or leave it out."
        )


def _opening(config: Config, contract: ModelContract, spec: TrainingSpec, head: PlanHead) -> str:
    rows = sum(shard.rows for shard in spec.train.shards)
    entities = sum(shard.entities for shard in spec.train.shards)
    text = f"training {contract.parameters:,} parameters on {rows:,} rows of {entities:,} entities, in order"
    if head.sources:
        text += f"; {head.reason}"
    if contract.batch is not None and contract.batch != spec.step.slots:
        text += (
            f"; the model fixes a batch of {contract.batch}, which does no harm: state is kept outside of it for"
            f" {spec.step.slots} slots, and no weight depends on the batch"
        )
    return text


def _epoch(trainer: Trainer, spec: TrainingSpec, number: int, report: TrainReport) -> None:
    trained = trainer.train_epoch(number)
    held = trainer.validate() if spec.whole is not None else None
    _check_losses(number, trained, held)
    assert trained.loss is not None, "checked before"
    read = held or trained
    if number == 1:
        report.rows_quarantined += read.rows_quarantined
        report.rows_skipped += read.rows_skipped
        report.quarantined_by_reason.update(read.reasons)
        report.rows_trained_on, report.targets_trained_on, report.steps = trained.rows, trained.targets, trained.steps
        if held is not None:
            report.rows_validated, report.targets_validated = held.rows - trained.rows, held.targets
    seconds = trained.seconds + (held.seconds if held else 0.0)
    losses = trained.losses | _of_validation(held.losses if held else {})
    metrics = trained.metrics | _of_validation(held.metrics if held else {})
    report.epochs.append(Epoch(number, trained.loss, held.loss if held else None, seconds, losses, metrics))


def _of_validation(figures: Mapping[str, float]) -> dict[str, float]:
    """Under the names that Keras gives them."""
    return {f"val_{name}": value for name, value in figures.items()}


def _check_losses(number: int, trained: Pass, held: Pass | None) -> None:
    if trained.loss is None and not trained.rows:
        raise InputRefused(
            'There is no row to train on: no entity fills a window of the model, and model.tail is "drop"; set it to'
            ' "mask".'
            if trained.rows_skipped
            else f"There is no row to train on: all are in quarantine, most of them since {_most(trained.reasons)}."
        )
    if trained.loss is None:
        raise InputRefused("No row to train on has a target that is known: look at the columns of train.target.")
    for loss in (trained.loss, held.loss if held else None):
        if loss is not None and not math.isfinite(loss):
            raise RunFailed(
                f"The loss is {loss} in epoch {number}, so the weights mean nothing and no model was written: lower "
                "train.learning_rate, or scale the features."
            )


def _most(reasons: Mapping[str, int]) -> str:
    return max(reasons, key=reasons.__getitem__, default=NO_KEY)


def _said(epoch: Epoch, epochs: int) -> str:
    held = "" if epoch.validation_loss is None else f" · validation loss {epoch.validation_loss:.5g}"
    metrics = "".join(f" · {name} {value:.5g}" for name, value in epoch.metrics.items())
    return f"epoch {epoch.epoch}/{epochs} · loss {epoch.loss:.5g}{held}{metrics} · {epoch.seconds:.1f} s"


def _write(config: Config, blob: bytes) -> str:
    """Writes the model so that it is there whole or not at all; returns its fingerprint."""
    path = config.model.path
    folder, name = os.path.split(path)
    try:
        LocalStore(folder).write(name, blob)
    except StoreFault as fault:
        why = getattr(fault.__cause__, "strerror", fault)
        raise RunFailed(f"model.path {path} cannot be written: {why}; mend that and train again.") from None
    return read_contract(blob, name=path, code=config.code).fingerprint
