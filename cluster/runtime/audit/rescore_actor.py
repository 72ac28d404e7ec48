"""The audit's actor: scores single entities again, alone and unchunked, from zero state or the one carried over.

What it decides: that TensorFlow is imported here and not in the process that audits, and that of an entity with more
than `ROWS_MAX` rows only the first are scored: no score looks ahead, so they are the same. Neither side is the run's:
rows are read and encoded by `own_entities`, scores come from `lstm_core.proof.reference`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings, InputSettings
from cluster.runtime.audit.audit_rows import shard_keys
from cluster.runtime.audit.own_carry import carried_of
from cluster.runtime.audit.own_entities import NOTHING, Carried, EntityReader
from cluster.runtime.audit.own_values import spelt_keys
from cluster.runtime.fleet.ray_errors import task_value
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.plan.plan_files import Extents
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.open_store import StoreSpec, open_store
from lstm_core.array_types import Floats
from lstm_core.contract.model_contract import ModelContract
from lstm_core.engine_environment import prepare_environment

if TYPE_CHECKING:
    from lstm_core.proof.reference import Reference

Scores = Floats  # (row, score), or (window, score)

ROWS_MAX = 1_000_000  # of one entity: the reference holds them all at once


@dataclass(frozen=True)
class AuditSpec:
    """What the actor must know to score entities of a run."""

    contract: ModelContract
    input: InputSettings
    store: StoreSpec  # of the output
    files: InputFiles
    carry: StoreSpec | None = None  # the table that the run has read
    rows_max: int = ROWS_MAX


Rescore = Callable[[Shard, Sequence[int]], list[Scores]]  # (shard, ordinals of entities in it) -> the scores of each
OpenRescore = Callable[[AuditSpec, bytes], AbstractContextManager[Rescore]]


class AuditActor:
    """One model, called on one entity at a time."""

    def __init__(self, spec: AuditSpec, model: bytes) -> None:
        self._spec = spec
        self._model = model
        self._reference: Reference | None = None
        self._reader = EntityReader(spec.files, spec.input, spec.contract.inputs)

    def rescore(self, shard: Shard, entities: Sequence[int]) -> list[Scores]:
        """Scores of entities of a shard, given by their ordinals; raises ModelRefused, InputBroken or RunFailed."""
        store = open_store(self._spec.store)
        reference, extents = self._load(), Extents(store).of(shard.index)
        carried = self._carried(extents, entities)
        return [
            self._score(reference, _of_entity(extents, entity), carried.get(number, NOTHING))
            for number, entity in enumerate(entities)
        ]

    def _carried(self, extents: pa.Table, entities: Sequence[int]) -> dict[int, Carried]:
        if self._spec.carry is None:
            return {}
        keys = spelt_keys(shard_keys(extents).take(list(entities)), self._spec.input.entity)
        return carried_of(keys, open_store(self._spec.carry), self._spec.input, self._spec.contract)

    def _load(self) -> Reference:
        if self._reference is None:  # not in the constructor, where a refusal would look like the actor's death
            prepare_environment()
            from lstm_core.proof.reference import Reference
            from lstm_core.step.rebatch import load_model
            from lstm_core.step.tensorflow_setup import configure_keras

            configure_keras()
            self._reference = Reference(load_model(self._model, name="the run's model", code=self._spec.contract.code))
        return self._reference

    def _score(self, reference: Reference, extents: pa.Table, carried: Carried) -> Scores:
        arrays, good = self._reader.arrays(extents, carried, self._spec.rows_max)
        if self._spec.input.window is not None and self._spec.input.tail == "drop":
            good -= good % self._spec.input.window
        if good == 0:
            return np.zeros((0, self._spec.contract.score_values), np.float32)
        outputs = reference.score([array[:good] for array in arrays], carried.states or None)
        return np.concatenate(outputs, axis=-1).astype(np.float32)


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
