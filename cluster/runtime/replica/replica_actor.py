"""The replica actor: one Ray actor that owns one model and one pipeline.

It imports TensorFlow in its constructor, so that no other process does, and sets threads and GPU memory before the
first operation. Calls: `poll` waits for news, and may bring shards; `assign` adds one alone. The actor is never
restarted by Ray: its state would be gone and nobody the wiser; the scheduler starts a new one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import ray

from cluster.core.carry import CarrySchema
from cluster.core.commit import Fragment, record_name
from cluster.core.plan.expected_steps import ExpectedSteps
from cluster.core.plan.shard_plan import Shard
from cluster.core.schedule.events import Demand
from cluster.core.settings import InputSettings, OutputSettings, StepSettings
from cluster.runtime.carry.carry_plan import ShardCarry
from cluster.runtime.carry.carry_writer import CarryTarget
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.commit.snapshots import Snapshot, read_snapshot
from cluster.runtime.plan.plan_files import Extents
from cluster.runtime.replica.fast_imports import fast_imports
from cluster.runtime.replica.feed import Feed
from cluster.runtime.replica.fragment_writer import Attempt, Destination, FragmentWriter
from cluster.runtime.replica.node_check import NodeNeeds, why_unfit_here
from cluster.runtime.replica.pipeline import Pipeline, PollReport, Saving
from cluster.runtime.rows.block_reader import BlockReader, Bounds
from cluster.runtime.rows.carried_state import CarriedState
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.planned_keys import PlannedKeys
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.open_store import StoreSpec, open_store
from lstm_core.contract.model_contract import ModelContract
from lstm_core.engine_environment import prepare_environment
from lstm_core.errors import SlotcarError
from lstm_core.packing.arena import Arena, RowLayout
from lstm_core.packing.packer import Packer

if TYPE_CHECKING:
    from lstm_core.step.stateful_replica import StatefulReplica

NOTHING = Demand(wanted_entities=0, shards_ahead=0, rows_free=0)


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
    block_rows: int
    cache_bytes: int
    carry: CarryRequest | None = None
    needs: NodeNeeds | None = None  # of its node, where that may differ from the driver's


@dataclass(frozen=True)
class Sources:
    """What the plan adds."""

    files: InputFiles
    expected: ExpectedSteps | None = None  # None: steps need all slots and timesteps
    carry_types: pa.Schema | None = None  # of keys and times in carry-over; None: as the spec has it


@dataclass(frozen=True)
class Lease:
    """A shard that a replica is to score, under an attempt number."""

    shard: Shard
    attempt: int
    fragments: int  # of it that are committed already


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
    demand: Demand = NOTHING  # once it has begun


@dataclass(frozen=True)
class UnfitNode:
    """What a replica says in place of `ReplicaInfo` where its node would not do: it has loaded nothing."""

    node_id: str
    why: str  # a sentence


def row_layout(contract: ModelContract, target_values: int = 0) -> RowLayout:
    """What the arena keeps for one row of a model's inputs."""
    inputs = tuple(((spec.columns,) if spec.rank == 3 else (), np.dtype(spec.dtype)) for spec in contract.inputs)
    return RowLayout(inputs, contract.score_values, target_values)


class ReplicaActor:
    """One model, one pipeline; made into a Ray actor by `driver`."""

    def __init__(self, spec: ReplicaSpec, model: bytes) -> None:
        self._spec, self._store = spec, open_store(StoreSpec.of(spec.output))
        self._refusal: SlotcarError | None = None
        self._unfit = _unfit(spec.needs)
        try:
            if self._unfit is None:
                self._replica, self._info = self.load(spec, model)
        except SlotcarError as refusal:  # raised here it would look like the death of an actor
            self._refusal = refusal
        self._pipeline: Pipeline | None = None
        self._begun = threading.Event()  # calls run in threads of their own, so a poll may come before its `begin`

    @staticmethod
    def load(spec: ReplicaSpec, model: bytes) -> tuple[StatefulReplica, ReplicaInfo]:
        """The compiled model, in zero state. Raises `ModelRefused`."""
        return _load(spec, model)

    def info(self) -> ReplicaInfo | UnfitNode:
        """Answers once the model is compiled. Raises `ModelRefused` where Keras cannot load or rebuild it."""
        if self._refusal is not None:
            raise self._refusal
        return self._unfit or self._info

    def begin(self, sources: Sources) -> ReplicaInfo:
        """Starts the pipeline, when the plan is there; answers when the first shard can be stepped."""
        spec, replica = self._spec, self._replica
        request = spec.carry.in_types(sources.carry_types) if spec.carry is not None else None
        if sources.expected is not None:
            replica.prepare(sources.expected.width, sources.expected.rows, sources.expected.tail)
        arena = Arena(spec.arena_rows, row_layout(spec.contract))
        encoder = Encoder(spec.input, spec.contract.inputs)
        bounds, keys = Bounds(spec.block_rows, spec.cache_bytes), PlannedKeys.of(spec.input, sources.files)
        reader = BlockReader(spec.input, encoder, sources.files, bounds, keys)
        packer = Packer(slots=spec.step.slots, chunk=spec.step.chunk)
        carry = self._carry_schema(request)
        known = ShardCarry(self._store, request, carry) if carry and request and request.read else None
        feed = Feed(reader, partial(_found, Extents(self._store), known), arena, packer)
        feed.fit, feed.reach, feed.group = replica.fit, replica.reach, replica.group
        target = self._target(carry, encoder.words)
        tensors = tuple((state.layer, state.index) for state in carry.states) if carry and target else None
        saving = Saving(partial(self._writer, target), spec.checkpoint_s, carry=tensors)
        self._pipeline = Pipeline(feed, arena, replica, saving, overlap=spec.gpu or spec.threads > 1)
        self._pipeline.name_kernel(replica.kernel)
        self._begun.set()
        return replace(self._info, demand=self._pipeline.demand())

    def assign(self, lease: Lease) -> None:
        """Adds a shard to the work."""
        shard, fragments = lease.shard, lease.fragments
        resume = self._snapshot(shard, fragments) if fragments else None
        self._running().assign(shard, Attempt(shard.index, lease.attempt, fragments, self._spec.fence), resume)

    def poll(self, timeout_s: float, leases: Sequence[Lease] = ()) -> PollReport:
        """Adds shards to the work, and waits for news, at most `timeout_s`."""
        for lease in leases:
            self.assign(lease)
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

    def _carry_schema(self, request: CarryRequest | None) -> CarrySchema | None:
        """The table of carry-over, its states in the model's order."""
        if request is None:
            return None
        states = self._replica.step_model.states
        return request.schema.ordered_as([(state.layer, state.index) for state in states])

    def _target(self, schema: CarrySchema | None, words: dict[str, pa.StringArray]) -> CarryTarget | None:
        carry = self._spec.carry
        if schema is None or carry is None or carry.write is None:
            return None
        return CarryTarget(open_store(carry.write), schema, words, self._spec.output.compression)

    def _writer(self, carry: CarryTarget | None, attempt: Attempt) -> FragmentWriter:
        spec = self._spec
        destination = Destination(self._store, spec.output, spec.input.time[0], spec.run, carry, spec.input.window)
        return FragmentWriter(destination, attempt)


def _found(extents: Extents, known: ShardCarry | None, shard: Shard) -> tuple[pa.Table, CarriedState | None]:
    """A shard's part of the plan, and what is known of its entities."""
    return extents.of(shard.index), known.of(shard) if known is not None else None


def _load(spec: ReplicaSpec, model: bytes) -> tuple[StatefulReplica, ReplicaInfo]:
    prepare_environment()
    begin = time.perf_counter()
    with fast_imports():
        import keras
        import numpy.ma  # noqa: F401  # np.unique wants it, at its first call
        import tensorflow as tf

        from lstm_core.proof.chunk_proof import prove_model
        from lstm_core.step.rebatch import load_model
        from lstm_core.step.stateful_replica import StatefulReplica, StepShape
        from lstm_core.step.tensorflow_setup import configure_compiler, configure_devices

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    imported = time.perf_counter()
    configure_devices(threads=spec.threads, gpu=spec.gpu)
    configure_compiler()
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


def _unfit(needs: NodeNeeds | None) -> UnfitNode | None:
    """A node may have come after the others were looked at."""
    if needs is None:
        return None
    why = why_unfit_here(needs)
    return None if why is None else UnfitNode(_node_id(), why)


def _node_id() -> str:
    """Ray's name for the node; empty where the replica is no actor."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
