"""The truth test of a finished output: some entities scored again, and compared with what was committed.

What it decides: which entities (the longest, the shortest, and others drawn by a seeded generator), and how far a score
may be off. Where the model is, and what it was, comes from the run's own request.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.core.audit import Check, Tally
from cluster.core.entity_keys import describe_entity
from cluster.core.plan.shard_plan import Shard
from cluster.core.row_accounting import draw_entities
from cluster.run_errors import OutputRefused
from cluster.runtime.audit.audit import Audit, ScoredEntity, locate, read_run
from cluster.runtime.audit.audit_rows import shard_keys
from cluster.runtime.audit.own_values import numbers_of, spelt_keys
from cluster.runtime.audit.rescore_actor import ROWS_MAX, AuditSpec, OpenRescore, Scores
from cluster.runtime.audit.shard_audit import UNREADABLE
from cluster.runtime.audit.trust import NOTHING_NAMED, Trust
from cluster.runtime.commit.run_request import RequestFile, read_request
from cluster.runtime.plan.plan_files import Extents
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.storage.open_store import StoreSpec
from cluster.runtime.storage.parquet_tables import read_batches
from cluster.runtime.storage.store import Store
from lstm_core.contract.model_contract import ModelContract
from lstm_core.errors import ModelRefused, SlotcarError
from lstm_core.score_gaps import score_gaps

SEED = 0


@dataclass(frozen=True)
class Rescored:
    """One entity, scored again."""

    entity: str  # as a user writes it
    rows: int  # compared
    difference: float  # the largest, as `score_gaps` measures it; infinite where only one of two scores is a number


@dataclass(frozen=True)
class Rescoring:
    """All of them, and what follows."""

    entities: tuple[Rescored, ...]
    check: Check


@dataclass(frozen=True)
class Truth:
    """What it takes to score entities of a run again."""

    request: RequestFile
    contract: ModelContract
    model: bytes
    store: StoreSpec  # of the output, which may have been moved since


def find_truth(store: Store, spec: StoreSpec, trust: Trust = NOTHING_NAMED) -> Truth:
    """The run's model, read where its request says; the modules that it needs are those that the caller names.

    Raises OutputRefused where there is no run or no request, ModelRefused where the model is gone or another, or wants
    modules that nobody has named.
    """
    read_run(store)
    request = read_request(store)
    if request is None or not request.model_path:
        raise OutputRefused(
            f"{store.root} does not say which model it was scored by (no {'model' if request else 'request'} is kept "
            "in it), so nothing can be scored again: leave --rescore out."
        )
    request = trust.believed(request)
    try:
        place = Path(request.model_path)
        if place.exists() and not place.is_file():  # a pipe would be waited for, and a device has no end
            raise OSError(errno.EINVAL, "it is no plain file")
        model = place.read_bytes()
    except OSError as fault:
        raise ModelRefused(
            f"The run's model {request.model_path} cannot be read ({fault.strerror}): put it back, or leave --rescore "
            "out."
        ) from None
    contract = trust.contract(model, request)
    if not contract.is_of(request.model_fingerprint):
        raise ModelRefused(
            f"{request.model_path} is another model now: its fingerprint is {contract.fingerprint[:12]}, the run's was "
            f"{request.model_fingerprint[:12]}; put the run's model back, or leave --rescore out."
        )
    return Truth(request, contract, model, spec)


def rescore(audit: Audit, store: Store, truth: Truth, count: int, open_rescore: OpenRescore) -> Rescoring:
    """Scores `count` entities of finished shards again and compares."""
    tally, head = Tally("scores"), audit.head
    if head is None or audit.longest is None or audit.shortest is None:
        return Rescoring((), tally.close())
    drawn = _drawn(audit, [audit.longest, audit.shortest], count)
    shards = {shard.index: shard for shard in audit.done}
    settings = truth.request.input
    files = InputFiles.of(head, store, settings.storage, checksums=settings.page_checksums)
    found: list[Rescored] = []
    try:
        rows_max = ROWS_MAX - ROWS_MAX % (truth.contract.window or 1)
        spec = AuditSpec(truth.contract, truth.request.input, truth.store, files, _carried(truth), rows_max)
        with open_rescore(spec, truth.model) as again:
            comparison = _Comparison(tally, audit, store, truth, spec.rows_max // (truth.contract.window or 1))
            for index, entities in drawn.items():
                found += comparison.of_shard(shards[index], entities, again(shards[index], entities))
    except (SlotcarError, *UNREADABLE) as fault:
        tally.fail(str(fault).rstrip("."))
    return Rescoring(tuple(found), tally.close())


def _drawn(audit: Audit, wanted: Sequence[ScoredEntity], count: int) -> dict[int, list[int]]:
    """The entities to score again, by shard: those `wanted`, and others that have scores, too."""
    none = np.zeros(0, np.int64)
    without = {shard.index: audit.unscored.get(shard.index, none) for shard in audit.done}
    sizes = [(shard.index, shard.entities - len(without[shard.index])) for shard in audit.done]
    ranks = [(one.shard, one.entity - int(np.searchsorted(without[one.shard], one.entity))) for one in wanted]
    drawn = draw_entities(sizes, ranks, count, np.random.default_rng(SEED))
    shards = {shard.index: shard for shard in audit.done}
    return {
        index: np.delete(np.arange(shards[index].entities), without[index])[ordinals].tolist()
        for index, ordinals in drawn.items()
    }


def _carried(truth: Truth) -> StoreSpec | None:
    """The carry-over that the run has read; entities begin there."""
    read = truth.request.state.read
    return None if read is None else StoreSpec(read, truth.request.output.storage)


class _Comparison:
    """Committed scores against others."""

    def __init__(self, tally: Tally, audit: Audit, store: Store, truth: Truth, rows_max: int) -> None:
        self._tally, self._audit, self._store = tally, audit, store
        self._extents = Extents(store)
        self._names, self._rows_max = truth.request.output.names, rows_max
        self._tolerance = truth.contract.tolerance

    def of_shard(self, shard: Shard, entities: Sequence[int], again: Sequence[Scores]) -> list[Rescored]:
        """Compares the entities of one shard, given by their ordinals."""
        keys = shard_keys(self._extents.of(shard.index))
        committed = self._committed(shard, keys, entities)
        return [
            self._compare(describe_entity(keys, entity), committed[entity], other)
            for entity, other in zip(entities, again, strict=True)
        ]

    def _compare(self, entity: str, committed: Scores, again: Scores) -> Rescored:
        rows = min(len(committed), len(again))
        gap = score_gaps(committed[:rows], again[:rows])
        largest = float(gap.max(initial=0.0))
        self._tally.count()
        if len(committed) != len(again):
            self._tally.fail(f"entity {entity} has {len(committed):,} scored rows, but {len(again):,} can be scored")
        elif largest > self._tolerance:
            row = int(np.argmax(gap.max(axis=1)))
            self._tally.fail(
                f"entity {entity}, row {row}: the score is {committed[row].tolist()}, but alone and unchunked it is "
                f"{again[row].tolist()}"
            )
        return Rescored(entity, rows, largest)

    def _committed(self, shard: Shard, keys: pa.Table, entities: Sequence[int]) -> dict[int, Scores]:
        """The scores of some entities, each up to `rows_max` rows."""
        parts: dict[int, list[Scores]] = {entity: [np.zeros((0, len(self._names)), np.float32)] for entity in entities}
        for record in self._audit.records[shard.index]:
            place = record.file and locate(self._store, self._audit.run, record.file, record.staged)
            for batch in read_batches(self._store, place) if place else ():
                self._collect(batch, keys, parts)
        return {entity: np.concatenate(found)[: self._rows_max] for entity, found in parts.items()}

    def _collect(self, batch: pa.RecordBatch, keys: pa.Table, parts: dict[int, list[Scores]]) -> None:
        names = keys.column_names
        number = numbers_of(spelt_keys(keys, names), spelt_keys(batch, names))
        scores = np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in self._names], axis=1)
        for entity in set(np.unique(number).tolist()) & set(parts):
            if sum(map(len, parts[entity])) < self._rows_max:
                parts[entity].append(scores[number == entity])
