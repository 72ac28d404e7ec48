"""The training actor: one Ray actor that trains one model, epoch by epoch, on rows that it reads itself.

What it decides: that TensorFlow is imported here and nowhere else, that the process computes the same bits for the same
seed, and that rows come through the feed that scoring uses, read without a race and made ahead of the step in one other
thread: the batches are a function of the plan. An epoch trains on the rows before `held_from`, then scores all rows in
order with the weights it ended with, and takes the validation loss over the rows from there on, whose state the earlier
rows left.

It leaves alone: the plan, the configuration and the file that the model is written to.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol

import numpy as np
import pyarrow as pa
import ray

from cluster.core.own_columns import line_column
from cluster.core.settings import ClusterSettings, InputSettings, StepSettings
from cluster.core.times import as_plain, ordinals
from cluster.runtime.fleet.preflight import check_nodes
from cluster.runtime.fleet.ray_cluster import RayCluster
from cluster.runtime.fleet.ray_errors import task_value
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.plan.input_scan import Item, Value
from cluster.runtime.replica.feed import Batch, Feed
from cluster.runtime.replica.node_check import NodeNeeds, SharedLocation, installed_versions
from cluster.runtime.replica.prefetch import prefetched
from cluster.runtime.replica.replica_actor import row_layout
from cluster.runtime.rows.block import Block
from cluster.runtime.rows.block_reader import BlockReader, Bounds
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.null_filling import LastKnown
from cluster.runtime.rows.placed_blocks import PlacedBlock
from cluster.runtime.storage.open_store import StoreSpec
from cluster.runtime.training.training_checkpoint import restore_checkpoint, save_checkpoint
from cluster.runtime.training.training_rows import SHUFFLED, PassPlan, Workers
from lstm_core.array_types import Array, Bools, Doubles, Floats, Int32s
from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import ModelContract
from lstm_core.engine_environment import prepare_environment
from lstm_core.packing.arena import Arena
from lstm_core.packing.packer import Packer
from lstm_core.training.training_settings import TrainingSettings

if TYPE_CHECKING:
    from lstm_core.training.callbacks import Callbacks
    from lstm_core.training.losses import LossSum
    from lstm_core.training.stateful_trainer import StatefulTrainer

Arguments = ParamSpec("Arguments")

CACHE_BYTES = 128 << 20
BATCHES_AHEAD = 2
BLOCK_CHUNKS = 512  # chunks of a long entity that are read at once
REMEDY = "start the training again"


@dataclass(frozen=True)
class TrainingSpec:
    """All that the actor needs beside the model."""

    contract: ModelContract
    input: InputSettings
    step: StepSettings
    settings: TrainingSettings
    epochs: int
    train: PassPlan
    held_from: int | None  # ordinal of the first time column; None where nothing is held out
    whole: PassPlan | None  # all rows, those that are held out included


@dataclass(frozen=True)
class Pass:
    """What one pass over the rows gave."""

    loss: float | None  # weighted mean; None where no row had a target
    losses: dict[str, float]  # that of each part, where the settings name several
    metrics: dict[str, float]
    targets: int  # targets that had a loss
    rows: int
    steps: int
    rows_quarantined: int
    rows_skipped: int  # those that fill no window, where such are dropped
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)  # why rows are in quarantine -> how many


class Trainer(Workers, Protocol):
    """Who trains: the actor behind Ray, or, in tests, the same class in this process."""

    def load(self, source: bytes | str, code: CustomCode, seed: int) -> bytes:
        """Seeds the process, makes the model and returns its archive."""

    def prove(self, contract: ModelContract, chunk: int) -> ModelContract:
        """The whole contract of the model, which is fit for chunks. Raises `ModelRefused`."""

    def begin(self, spec: TrainingSpec, checkpoint: bytes | None) -> None:
        """Compiles the steps, and goes on from a checkpoint where there is one."""

    def train_epoch(self, epoch: int) -> Pass:
        """One epoch with updates; `epoch` counts from 1."""

    def validate(self) -> Pass:
        """The whole series with the weights of now; the loss of the rows that are held out."""

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> tuple[bytes, bool]:
        """Lets the callbacks see the epoch; a checkpoint behind it, and whether they want to stop."""

    def archive(self) -> bytes:
        """Ends the training: the model with the weights that the callbacks leave."""


class TrainingActor:
    """One model in training. Implements `Trainer`; made into a Ray actor by `ray_trainer`."""

    def prepare(self, *, threads: int, gpu: bool) -> None:
        """Sets devices and determinism; before anything else, and only in a process of its own."""
        prepare_environment()
        import tensorflow as tf

        from lstm_core.step.tensorflow_setup import configure_compiler, configure_devices

        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        configure_devices(threads=threads, gpu=gpu)
        configure_compiler()
        tf.config.experimental.enable_op_determinism()
        pa.set_cpu_count(max(1, threads))

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterable[Value]:
        """See `Workers`: where there is no cluster, in this process."""
        return map(function, items)

    def check(self, place: StoreSpec) -> None:
        """See `Workers`: this process sees what it has written."""

    def load(self, source: bytes | str, code: CustomCode, seed: int) -> bytes:
        """See `Trainer`. `source` is an archive, or "module:function". Raises `UsageError`."""
        import keras

        from lstm_core.step.rebatch import load_model
        from lstm_core.training.model_builder import archive_of, build_model

        self._seed = seed
        keras.utils.set_random_seed(seed)
        if isinstance(source, bytes):
            self._model = load_model(source, name="train.model", code=code)
            return source
        code.load()
        self._model = build_model(source, folders=code.folders)
        return archive_of(self._model, name=f"The model of {source!r}")

    def prove(self, contract: ModelContract, chunk: int) -> ModelContract:
        """See `Trainer`."""
        from lstm_core.proof.chunk_proof import prove_model

        return prove_model(self._model, contract, name="train.model", chunk=chunk)

    def begin(self, spec: TrainingSpec, checkpoint: bytes | None) -> None:
        """See `Trainer`. Raises `UsageError`."""
        import keras

        from lstm_core.step.stateful_replica import StepShape
        from lstm_core.training.callbacks import Callbacks
        from lstm_core.training.stateful_trainer import StatefulTrainer

        shape = StepShape(spec.step.slots, spec.step.chunk, spec.step.jit)
        self._spec = spec
        keras.utils.set_random_seed(self._seed)  # whatever the proof has drawn
        names = [output.name for output in spec.contract.outputs]
        self._trainer: StatefulTrainer = StatefulTrainer(self._model, shape, spec.settings, names)
        better = self._trainer.better
        self._callbacks: Callbacks = Callbacks(spec.settings.callbacks, spec.settings.folder, better)
        kept = restore_checkpoint(checkpoint, self._trainer.variables) if checkpoint else []
        model = self._trainer.trained_model()
        self._callbacks.begin(model, self._trainer.optimizer, epochs=spec.epochs, kept=kept)

    def train_epoch(self, epoch: int) -> Pass:
        """See `Trainer`. Raises `InputBroken`."""
        self._callbacks.epoch_begin(epoch - 1)
        return self._pass(self._spec.train, None, self._trainer.train_step)

    def validate(self) -> Pass:
        """See `Trainer`. Raises `InputBroken`."""
        spec = self._spec
        assert spec.whole is not None, "nothing is held out"
        return self._pass(spec.whole, spec.held_from, self._trainer.score_step)

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> tuple[bytes, bool]:
        """See `Trainer`."""
        model = self._trainer.trained_model()
        self._callbacks.epoch_end(epoch - 1, {**logs, "learning_rate": float(self._trainer.optimizer.learning_rate)})
        if self._callbacks:
            self._trainer.take_back()
        return save_checkpoint(self._trainer.variables, self._callbacks.state()), bool(
            getattr(model, "stop_training", False)
        )

    def archive(self) -> bytes:
        """See `Trainer`."""
        from lstm_core.training.model_builder import archive_of

        self._trainer.trained_model()
        self._callbacks.end()
        if self._callbacks:
            self._trainer.take_back()
            del self._model.optimizer  # a callback may have looked at it; a saved model has none
        return archive_of(self._trainer.trained_model(), name="The trained model")

    def _pass(self, series: PassPlan, held_from: int | None, step: StepWithLoss) -> Pass:
        from lstm_core.training.losses import LossSum

        begin = time.perf_counter()
        self._trainer.reset_all()
        rows = RowsInOrder(self._spec, series, held_from)
        loss: LossSum = LossSum(self._trainer.loss.parts)
        for batch, targets in prefetched(rows, BATCHES_AHEAD):
            loss.add(*step(batch.rows, targets, batch.step.reset, batch.step.lengths))
        mean = loss.mean if loss.weight else None
        seconds = time.perf_counter() - begin
        losses = loss.means if len(loss.parts) > 1 else {}
        left_out = (rows.rows_quarantined, rows.rows_skipped)
        metrics = self._trainer.metrics.results()
        return Pass(mean, losses, metrics, rows.targets, rows.rows, rows.steps, *left_out, seconds, dict(rows.reasons))


# Rows of each input, targets, resets and lengths -> the losses' sums and their weights; see `StatefulTrainer`.
StepWithLoss = Callable[[Sequence[Array], Floats, Bools, Int32s], tuple[Doubles, Doubles]]


class RowsInOrder:
    """The batches of one pass, with their targets, read as they are needed; iterate once."""

    def __init__(self, spec: TrainingSpec, series: PassPlan, held_from: int | None) -> None:
        step = spec.step
        block_rows = BLOCK_CHUNKS * step.chunk
        layout = row_layout(spec.contract, target_values=len(spec.input.target))
        self._arena = Arena(max(2 * series.shard_rows, 4 * block_rows), layout)
        reader = _reader(spec, series, held_from, block_rows)
        packer = Packer(slots=step.slots, chunk=step.chunk)
        extents = series.extents
        self._feed = Feed(reader, lambda shard: (extents[shard.index], None), self._arena, packer, threaded=False)
        self._shards = series.shards
        self._values = spec.contract.score_values  # a row's weight stands behind them
        self._window = spec.contract.window
        self.rows = self.steps = self.targets = self.rows_quarantined = self.rows_skipped = 0
        self.reasons: Counter[str] = Counter()  # rows in quarantine

    def __iter__(self) -> Iterator[tuple[Batch, Floats]]:
        """Batches, and the targets (slot, step, score value) of each."""
        for shard in self._shards:
            self._feed.assign(shard)
        self._feed.close()
        while (batch := self._feed.next_batch()) or not self._feed.done:
            if batch is None:  # blocks whose rows are all in quarantine are in the way of others
                self._release(self._feed.drain())
                continue
            chunk = batch.rows[0].shape[1]
            targets = self._arena.targets[batch.step.gather(chunk)]
            judged = batch.step.valid(chunk) if self._window is None else batch.step.last(self._window)
            self.targets += int(np.isfinite(targets[..., : self._values][judged]).sum())
            yield batch, targets
            self.rows += batch.step.row_count
            self.steps += 1
            self._release(self._feed.collect(batch))
        self._release(self._feed.drain())
        planned = sum(shard.rows for shard in self._shards)
        found = (self.rows, self.rows_quarantined, self.rows_skipped)
        assert sum(found) == planned, (*found, planned)

    def _release(self, placed_blocks: Sequence[PlacedBlock]) -> None:
        for placed in placed_blocks:
            self.rows_quarantined += placed.block.quarantined_rows
            self.reasons.update(_rows_by_reason(placed.block.quarantine))
            self.rows_skipped += placed.block.skipped_rows
            self._feed.release(placed)


def _rows_by_reason(lines: pa.Table | None) -> dict[str, int]:
    """Rows of a block's lines for the quarantine, by their reason."""
    if lines is None:
        return {}
    told = pa.table({name: line_column(lines, name) for name in ("reason", "rows")})
    found = told.group_by("reason").aggregate([("rows", "sum")]).to_pydict()
    return dict(zip(found["reason"], found["rows_sum"], strict=True))


class _HeldOutReader(BlockReader):
    """Takes the targets away from the rows before `held_from`: they move the state and have no loss."""

    time: str
    held_from: int

    def encode(self, block: Block, into: list[Array], targets: Floats | None, last_known: LastKnown | None) -> None:
        """As its base does, with fewer targets."""
        super().encode(block, into, targets, last_known)
        assert targets is not None, "validation has targets"
        moments, _ = ordinals(as_plain(block.table.column(self.time)), first=True)
        targets[moments < self.held_from] = np.nan


def _reader(spec: TrainingSpec, series: PassPlan, held_from: int | None, block_rows: int) -> BlockReader:
    kind = BlockReader if held_from is None else _HeldOutReader
    encoder = Encoder(spec.input, spec.contract.inputs)
    reader = kind(spec.input, encoder, series.files, Bounds(block_rows, CACHE_BYTES))
    if isinstance(reader, _HeldOutReader):
        assert held_from is not None, "a moment to hold out from"
        reader.time, reader.held_from = spec.input.time[0], held_from
    return reader


class _RayTrainer:
    """Implements `Trainer` by calls to an actor. A fault of ours is raised here as it was there."""

    def __init__(self, settings: ClusterSettings) -> None:
        remote = ray.remote(TrainingActor).options(
            num_cpus=settings.cpus_per_replica, num_gpus=settings.gpus_per_replica, max_restarts=0, max_task_retries=0
        )
        self._settings = settings
        self._actor: Any = remote.remote()  # a handle: Ray gives it the methods
        threads = max(1, int(settings.cpus_per_replica))
        self._call(TrainingActor.prepare, threads=threads, gpu=settings.gpus_per_replica > 0)

    def map(self, function: Callable[[Item], Value], items: Sequence[Item]) -> Iterable[Value]:
        return RayCluster(self._settings).map(function, items)

    def check(self, place: StoreSpec) -> None:
        if self._settings.address:  # else all is on this machine
            shared = SharedLocation(place, "the folder beside model.path,", SHUFFLED, "mark", tried=SHUFFLED)
            check_nodes(NodeNeeds(installed_versions(), shared))

    def load(self, source: bytes | str, code: CustomCode, seed: int) -> bytes:
        return bytes(self._call(TrainingActor.load, source, code, seed))

    def prove(self, contract: ModelContract, chunk: int) -> ModelContract:
        return self._call(TrainingActor.prove, contract, chunk)

    def begin(self, spec: TrainingSpec, checkpoint: bytes | None) -> None:
        self._call(TrainingActor.begin, spec, checkpoint)

    def train_epoch(self, epoch: int) -> Pass:
        return self._call(TrainingActor.train_epoch, epoch)

    def end_epoch(self, epoch: int, logs: dict[str, float]) -> tuple[bytes, bool]:
        return self._call(TrainingActor.end_epoch, epoch, logs)

    def validate(self) -> Pass:
        return self._call(TrainingActor.validate)

    def archive(self) -> bytes:
        return bytes(self._call(TrainingActor.archive))

    def stop(self) -> None:
        """Ends the actor."""
        ray.kill(self._actor)

    def _call(
        self,
        method: Callable[Concatenate[TrainingActor, Arguments], Value],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Value:
        """What a method of the actor returns."""
        value: Value = task_value(getattr(self._actor, method.__name__).remote(*args, **kwargs), remedy=REMEDY)
        return value


@contextmanager
def ray_trainer(settings: ClusterSettings) -> Iterator[Trainer]:
    """A training actor on a cluster, for the length of a training."""
    with connected(settings):
        trainer = _RayTrainer(settings)
        try:
            yield trainer
        finally:
            trainer.stop()
