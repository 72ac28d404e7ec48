"""The replica actor: one Ray actor that owns one model and one pipeline.

It imports TensorFlow in its constructor, so that no other process does, and sets threads and GPU memory before the
first operation. Calls: `assign` adds a shard, `poll` waits for news. The actor is never restarted by Ray: its state
would be gone and nobody the wiser; the scheduler starts a new one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from cluster.core.commit import Fragment, record_name
from cluster.core.plan import Shard
from cluster.core.settings import InputSettings, OutputSettings, StepSettings
from cluster.runtime.blocks import BlockReader
from cluster.runtime.encode import Encoder
from cluster.runtime.feed import Feed
from cluster.runtime.fragments import Attempt, FragmentWriter
from cluster.runtime.origins import InputFiles
from cluster.runtime.pipeline import Pipeline, Report, Saving
from cluster.runtime.planning import read_segments
from cluster.runtime.snapshots import Snapshot, read_snapshot
from cluster.runtime.store import Store
from cluster.runtime.stores import StoreSpec, open_store
from lstm_core.arena import Arena, RowLayout
from lstm_core.contract import ModelContract
from lstm_core.errors import SlotcarError
from lstm_core.packing import Packer

if TYPE_CHECKING:
    from lstm_core.replica import StatefulReplica


@dataclass(frozen=True)
class ReplicaSpec:
    """All that a replica needs to know before the plan is made."""

    contract: ModelContract
    input: InputSettings
    step: StepSettings
    output: OutputSettings
    run: str  # the run's short name, part of file names
    threads: int
    gpu: bool
    checkpoint_s: float
    fence: int  # number of the driver's lock
    arena_rows: int
    piece_rows: int
    cache_bytes: int


@dataclass(frozen=True)
class Sources:
    """What the plan adds."""

    files: InputFiles


@dataclass(frozen=True)
class ReplicaInfo:
    """What a replica says of itself when it is ready."""

    pid: int
    node: str
    node_id: str  # Ray's
    device: str
    import_s: float
    compile_s: float
    versions: dict[str, str]


def row_layout(contract: ModelContract, target_values: int = 0) -> RowLayout:
    """What the arena keeps for one row of a model's inputs."""
    inputs = tuple(((spec.columns,) if spec.rank == 3 else (), np.dtype(spec.dtype)) for spec in contract.inputs)
    return RowLayout(inputs, contract.score_values, target_values)


class ReplicaActor:
    """One model, one pipeline; made into a Ray actor by `driver`."""

    def __init__(self, spec: ReplicaSpec, model: bytes) -> None:
        self._spec, self._store = spec, open_store(StoreSpec.of(spec.output))
        self._refusal: SlotcarError | None = None
        try:
            self._replica, self._info = _load(spec, model)
        except SlotcarError as refusal:  # raised here it would look like the death of an actor
            self._refusal = refusal
        self._pipeline: Pipeline | None = None
        self._begun = threading.Event()  # calls run in threads of their own, so a poll may come before its `begin`

    def info(self) -> ReplicaInfo:
        """Answers once the model is compiled. Raises `ModelRefused` where Keras cannot load or rebuild it."""
        if self._refusal is not None:
            raise self._refusal
        return self._info

    def begin(self, sources: Sources) -> None:
        """Starts the pipeline, when the plan is there."""
        spec, replica = self._spec, self._replica
        arena = Arena(spec.arena_rows, row_layout(spec.contract))
        reader = BlockReader(
            spec.input,
            Encoder(spec.input, spec.contract.inputs),
            sources.files,
            piece_rows=spec.piece_rows,
            cache_bytes=spec.cache_bytes,
        )
        packer = Packer(slots=spec.step.slots, chunk=spec.step.chunk)
        segments = partial(_segments, self._store)
        feed = Feed(reader, segments, arena, packer)
        self._pipeline = Pipeline(feed, arena, replica, Saving(self._writer, spec.checkpoint_s))
        self._begun.set()

    def assign(self, shard: Shard, attempt: int, fragments: int) -> None:
        """Adds a shard to the work, of which `fragments` fragments are committed already."""
        resume = self._snapshot(shard, fragments) if fragments else None
        self._running().assign(shard, Attempt(shard.index, attempt, fragments, self._spec.fence), resume)

    def poll(self, timeout_s: float) -> Report:
        """Waits for news, at most `timeout_s`."""
        return self._running().report(timeout_s)

    def close(self) -> None:
        """Ends the pipeline's threads once what is assigned is written; Ray ends a real actor with its process."""
        if self._pipeline is not None:
            self._pipeline.close()

    def _running(self) -> Pipeline:
        self._begun.wait()
        assert self._pipeline is not None, "begun without a pipeline"
        return self._pipeline

    def _snapshot(self, shard: Shard, fragments: int) -> Snapshot:
        record = self._store.read(record_name(shard.index, fragments - 1))
        newest = Fragment.from_json(record.decode())
        assert newest.snapshot is not None, f"fragment {fragments - 1} of shard {shard.index} is final"
        return read_snapshot(self._store, newest.snapshot)

    def _writer(self, attempt: Attempt) -> FragmentWriter:
        spec = self._spec
        return FragmentWriter(self._store, spec.output, spec.input.time[0], spec.run, attempt)


def _segments(store: Store, shard: Shard) -> Any:
    return read_segments(store, shard.index)


def _load(spec: ReplicaSpec, model: bytes) -> tuple[StatefulReplica, ReplicaInfo]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    begin = time.perf_counter()
    import keras
    import tensorflow as tf

    from lstm_core.proof import prove_model
    from lstm_core.rebatch import load_model
    from lstm_core.replica import StatefulReplica, StepShape, configure_devices

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    imported = time.perf_counter()
    configure_devices(threads=spec.threads, gpu=spec.gpu)
    pa.set_cpu_count(max(1, spec.threads))
    loaded = load_model(model, name="the model", code=spec.contract.code)
    prove_model(loaded, spec.contract, name="the model", chunk=spec.step.chunk)
    replica = StatefulReplica(loaded, StepShape(spec.step.slots, spec.step.chunk, spec.step.jit))
    replica.warm_up()
    compiled = time.perf_counter()
    versions = {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }
    device = "gpu" if tf.config.get_visible_devices("GPU") else "cpu"
    node = os.uname().nodename
    return replica, ReplicaInfo(os.getpid(), node, _node_id(), device, imported - begin, compiled - imported, versions)


def _node_id() -> str:
    """Ray's name for the node; empty where the replica is no actor."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
