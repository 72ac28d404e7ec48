"""The audit's actor: scores single entities again, alone and unchunked, from zero state or the one carried over.

What it decides: that TensorFlow is imported here and not in the process that audits, and that of an entity with more
than `ROWS_MAX` rows only the first are scored: no score looks ahead, so they are the same. Each file is read alone, see
`single_files`, and rows are ordered, filled and judged as a run does it; the scores come from
`lstm_core.proof.reference`, which shares nothing with the step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings, InputSettings
from cluster.runtime.audit.single_files import FilesAlone
from cluster.runtime.carry.carry_plan import ShardCarry
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.fleet.ray_errors import task_value
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.plan.plan_files import Extents
from cluster.runtime.replica.replica_actor import row_layout
from cluster.runtime.rows.block_reader import BlockReader, Bounds
from cluster.runtime.rows.carried_state import CarriedState
from cluster.runtime.rows.feature_encoding import Encoder
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.open_store import StoreSpec, open_store
from lstm_core.array_types import Floats
from lstm_core.contract.model_contract import ModelContract

if TYPE_CHECKING:
    from lstm_core.proof.reference import Reference

Scores = Floats  # (row, score), or (window, score)

ROWS_MAX = 1_000_000  # of one entity: the reference holds them all at once
CACHE_BYTES = 64 << 20


@dataclass(frozen=True)
class AuditSpec:
    """What the actor must know to score entities of a run."""

    contract: ModelContract
    input: InputSettings
    store: StoreSpec  # of the output
    files: InputFiles
    carry: CarryRequest | None = None
    rows_max: int = ROWS_MAX


Rescore = Callable[[Shard, Sequence[int]], list[Scores]]  # (shard, ordinals of entities in it) -> the scores of each
OpenRescore = Callable[[AuditSpec, bytes], AbstractContextManager[Rescore]]


class AuditActor:
    """One model, called on one entity at a time."""

    def __init__(self, spec: AuditSpec, model: bytes) -> None:
        self._spec = spec
        self._model = model
        self._reference: Reference | None = None
        settings = replace(spec.input, keep=(), target=())
        encoder, inputs, files = Encoder(settings, spec.contract.inputs), spec.contract.inputs, spec.files
        alone = FilesAlone(files.files, files.sources, files.storage, files.types, settings=settings, inputs=inputs)
        self._reader = BlockReader(settings, encoder, alone, Bounds(spec.rows_max, CACHE_BYTES))

    def rescore(self, shard: Shard, entities: Sequence[int]) -> list[Scores]:
        """Scores of entities of a shard, given by their ordinals; raises ModelRefused, InputBroken or RunFailed."""
        store = open_store(self._spec.store)
        reference, extents = self._load(), Extents(store).of(shard.index)
        carry = self._spec.carry
        known = ShardCarry(store, carry, carry.schema).of(shard) if carry is not None else None
        found = []
        for entity in entities:
            alone = known.alone(entity) if known is not None else None
            found.append(self._score(reference, shard, _of_entity(extents, entity), alone))
        return found

    def _load(self) -> Reference:
        if self._reference is None:  # not in the constructor, where a refusal would look like the actor's death
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
            from lstm_core.proof.reference import Reference
            from lstm_core.step.rebatch import load_model

            self._reference = Reference(load_model(self._model, name="the run's model", code=self._spec.contract.code))
        return self._reference

    def _score(self, reference: Reference, shard: Shard, extents: pa.Table, known: CarriedState | None) -> Scores:
        rows = int(pc.sum(extents.column("row_count")).as_py())
        # As a streamed shard it is read up to `rows_max`; one that must be sorted is small and read whole.
        streamed = rows > self._spec.rows_max and bool(pc.all(extents.column("sorted")).as_py())
        alone = Shard(shard.index, 1, rows, rows, streamed)
        block = next(iter(self._reader.blocks(alone, extents, 0, known)))
        arrays = [np.empty((block.rows, *shape), dtype) for shape, dtype in row_layout(self._spec.contract).inputs]
        self._reader.encode(block, arrays, None, self._reader.carried_known(known, 1) if known is not None else None)
        scored = min(int(block.lengths[0]), self._spec.rows_max)
        if scored == 0:
            return np.zeros((0, self._spec.contract.score_values), np.float32)
        outputs = reference.score([array[:scored] for array in arrays], _states(known) if known is not None else None)
        return np.concatenate(outputs, axis=-1).astype(np.float32)


def _states(known: CarriedState) -> dict[tuple[str, int], Floats]:
    """The state that the only entity goes on from, zero where it has none."""
    _, states = known.states(1)
    return {(column.layer, column.index): values[0] for column, values in zip(known.schema.states, states, strict=True)}


def _of_entity(extents: pa.Table, entity: int) -> pa.Table:
    return extents.filter(pc.equal(extents.column("entity"), pa.scalar(entity, pa.int64())))


@contextmanager
def ray_rescore(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """An actor on an embedded cluster, for the length of an audit."""
    with connected(ClusterSettings(replicas=1)):
        remote = ray.remote(AuditActor).options(num_cpus=1, max_restarts=0, max_task_retries=0)
        actor: Any = remote.remote(spec, model)  # a handle: Ray gives it the methods

        def rescore(shard: Shard, entities: Sequence[int]) -> list[Scores]:
            found: list[Scores] = task_value(actor.rescore.remote(shard, list(entities)), remedy="run verify again")
            return found

        try:
            yield rescore
        finally:
            ray.kill(actor)
