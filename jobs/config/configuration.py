"""A checked configuration, and the plain settings that the layers below are given.

Decides what a file means once its keys are known to be right: defaults that depend on the model, features in the order
of the model's inputs, vocabularies read from their files. Relative paths, also those of `--set`, are relative to the
file. It reads the file, the vocabularies and the model's bytes; it starts nothing, and imports no Ray or TensorFlow.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from cluster.core.settings import (
    WINDOW_ROWS,
    WINDOW_START,
    ClusterSettings,
    InputSettings,
    OutputSettings,
    StateSettings,
    StepSettings,
)
from jobs.config.config_keys import (
    ClusterSection,
    Document,
    FaultsSection,
    InputSection,
    ModelSection,
    OutputSection,
    TrainSection,
)
from jobs.config.feature_binding import bind_features, check_fills, read_vocabularies
from jobs.config.key_rules import Command, check_rules
from jobs.config.toml_text import apply_override, put, read_text, refuse_secrets, sentence
from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import ModelContract
from lstm_core.errors import UsageError
from lstm_core.json_types import JsonObject, JsonValue
from lstm_core.training.training_settings import TrainingSettings


@dataclass(frozen=True)
class Config:
    """One configuration file with its overrides; all paths are absolute."""

    source: str  # the file, as the user named it, or what stands for it in sentences
    folder: str  # where it lies
    document: Document
    raw: Mapping[str, JsonValue] = field(default_factory=dict)  # as written, with its overrides

    @property
    def run_id(self) -> str | None:
        """The user's name of the run; None asks for `run_id.derive_run_id`."""
        return self.document.run_id

    @property
    def model(self) -> ModelSection:
        return self.document.model

    @property
    def input(self) -> InputSection:
        return self.document.input

    @property
    def output(self) -> OutputSection:
        return self.document.output

    @property
    def cluster(self) -> ClusterSection:
        return self.document.cluster

    @property
    def faults(self) -> FaultsSection:
        return self.document.faults

    @property
    def train(self) -> TrainSection:
        """[train]; only `train` may ask for it, whose configuration was checked to have it."""
        assert self.document.train is not None, "loaded for another command than train"
        return self.document.train

    @property
    def code(self) -> CustomCode:
        """The modules with the model's custom layers, looked for beside the file and where the command was given."""
        modules = self.model.modules
        return CustomCode(modules, (self.folder, os.getcwd()) if modules else ())

    def model_bytes(self) -> bytes:
        """The `.keras` file, whole."""
        try:
            return Path(self.model.path).read_bytes()
        except OSError as fault:
            raise UsageError(f"model.path {self.model.path} cannot be read: {fault.strerror}.") from None

    def step_settings(self, contract: ModelContract | None = None) -> StepSettings:
        """The shape of a step; `model.chunk` is only for models that leave their length in time open."""
        chunk = contract.chunk if contract is not None and contract.chunk is not None else self.model.chunk
        return StepSettings(slots=self.model.slots, chunk=chunk, jit=self.model.jit)

    def cluster_settings(self) -> ClusterSettings:
        return ClusterSettings(
            address=self.cluster.address,
            replicas=self.cluster.replicas,
            cpus_per_replica=self.cluster.cpus_per_replica,
            gpus_per_replica=self.cluster.gpus_per_replica,
            max_attempts=self.faults.max_attempts,
            checkpoint_s=self.faults.checkpoint_s,
        )

    def input_settings(self, contract: ModelContract, *, training: bool = False) -> InputSettings:
        """What to read for this model; UsageError where the features do not fit its inputs."""
        features = bind_features(self.input.features, contract, source=self.source)
        vocabulary = read_vocabularies(self.input.vocabulary)
        fill = check_fills(self.input.fill, features, vocabulary, contract)
        return InputSettings(
            path=self.input.path,
            entity=self.input.entity,
            time=self.input.time,
            features=features,
            since=self.input.since,
            until=self.input.until,
            layout=self.input.layout,
            fill=fill,
            vocabulary=vocabulary,
            keep=() if training else self.output.keep,
            target=self._target(contract) if training else (),
            bad_entity=self.faults.bad_entity,
            ties=self.faults.ties,
            storage=self.document.storage,
            late=self.document.state.late,
            version=self.input.version,
            window=contract.window,
            tail=self.model.tail,
            chunk=self.step_settings(contract).chunk,
            page_checksums=self.input.page_checksums,
            weighted=training and self.train.weight is not None,
        )

    def state_settings(self) -> StateSettings:
        return StateSettings(**self.document.state.model_dump())

    def output_settings(self, contract: ModelContract) -> OutputSettings:
        """Where scores go and what they are called; UsageError where the names do not fit the model's scores."""
        names = self.output.names or contract.score_names
        if len(names) != contract.score_values:
            raise UsageError(
                f"output.names has {len(names)} names, but {self.model.path} gives {contract.score_values} scores per"
                f" row ({', '.join(contract.score_names)}): give one name per score."
            )
        taken = {*self.input.entity, *self.input.time, *self.output.keep}
        self._check_windows(contract, {*taken, *names})
        for name in names:
            if name in taken or names.count(name) > 1:
                raise UsageError(f"The model's score {name!r} has the name of another column: set output.names.")
        return OutputSettings(
            path=self.output.path,
            names=tuple(names),
            rows_per_file=self.output.rows_per_file,
            compression=self.output.compression,
            overwrite=self.output.overwrite,
            storage=self.document.storage,
            delta=self.output.delta,
        )

    def identity(self) -> JsonObject:
        """The settings that decide the output's bytes or place, as JSON values; see `run_identity`."""
        chosen = self.document.model_dump(mode="json", include={"input", "state", "output"})
        chosen["model"] = self.model.model_dump(exclude={"path"})
        chosen["output"].pop("overwrite")
        chosen["faults"] = self.faults.model_dump(include={"bad_entity", "ties"})
        chosen["input"]["vocabulary"] = read_vocabularies(self.input.vocabulary)
        _leave_out_defaults(chosen["input"])
        return chosen

    def _check_windows(self, contract: ModelContract, taken: Collection[str]) -> None:
        """What only a model with one score per window brings along: two columns, and rows that fill no window."""
        if contract.window is None:
            return
        for name in (WINDOW_START, WINDOW_ROWS):
            if name in taken:
                raise UsageError(
                    f"Column {name!r} has the name of one that is written for each window of {self.model.path}: leave"
                    " it out of output.keep, or give it another name."
                )
        if self.model.tail == "mask" and self.document.state.write is not None:
            raise UsageError(
                f'{self.source}: model.tail is "mask" and state.write is set, but {self.model.path} gives one score per'
                f" window of {contract.window} rows, and a state after an incomplete window cannot be gone on from: set"
                ' model.tail = "drop", and give the rows that are skipped again tomorrow.'
            )

    def _target(self, contract: ModelContract) -> tuple[str, ...]:
        if len(self.train.target) != contract.score_values:
            raise UsageError(
                f"train.target names {len(self.train.target)} columns, but the model gives {contract.score_values}"
                f" scores per row ({', '.join(contract.score_names)}): name one column per score."
            )
        return self.train.target if self.train.weight is None else (*self.train.target, self.train.weight)

    def training_settings(self) -> TrainingSettings:
        """How weights are moved."""
        train = self.train
        return TrainingSettings(
            loss=train.loss,
            optimizer=train.optimizer,
            learning_rate=train.learning_rate,
            loss_weights=train.loss_weights,
            metrics=train.metrics,
            class_weight=train.class_weight,
            weighted=train.weight is not None,
            reset_chunks=train.reset == "chunk",
            callbacks=train.callbacks,
            folder=self.folder,
        )

    def training_identity(self) -> JsonObject:
        """The settings that decide what a training learns; epochs may be added to it."""
        chosen = self.document.model_dump(mode="json", include={"input", "train"})
        for key in ("epochs", "restart", "callbacks", "metrics"):
            chosen["train"].pop(key)
        chosen["model"] = self.model.model_dump(include={"slots", "chunk", "tail", "modules"})
        chosen["input"]["vocabulary"] = read_vocabularies(self.input.vocabulary)
        _leave_out_defaults(chosen["input"])
        return chosen


def _leave_out_defaults(chosen: JsonObject) -> None:
    """Keys that came later change nothing of an earlier run's name where they are left out."""
    if chosen["page_checksums"]:
        del chosen["page_checksums"]


def load_config(
    source: str | Mapping[str, JsonValue],
    overrides: Sequence[str] = (),
    address: str | None = None,
    *,
    command: Command = "score",
) -> Config:
    """Reads and checks a file, or the content of one, for `command`.

    Raises UsageError with one sentence for whatever is wrong.
    """
    path = source if isinstance(source, str) else "The configuration"
    raw = read_text(source) if isinstance(source, str) else deepcopy(dict(source))
    for override in overrides:
        apply_override(raw, override)
    if address is not None:
        put(raw, ["cluster", "address"], address, option="--address")
    refuse_secrets(raw, path)
    folder = os.path.dirname(os.path.abspath(path)) if isinstance(source, str) else os.getcwd()
    document = validated({"model": {}, "input": {}} | raw, source=path, folder=folder)
    check_rules(document, source=path, command=command)
    return Config(source=path, folder=folder, document=document, raw=raw)


def validated(raw: JsonObject, *, source: str, folder: str) -> Document:
    """`raw` as a document whose paths are absolute; UsageError with one sentence for the first mistake."""
    try:
        return Document.model_validate(raw, context={"folder": folder})
    except ValidationError as fault:
        raise UsageError(sentence(fault.errors(include_url=False), source)) from None
