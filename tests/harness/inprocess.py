"""A cluster whose replicas live in the test's own process: the run's own code, without Ray.

Each replica is the real actor class with the real model, reader, packer and writer. `InProcessCluster` implements the
protocol that `run.score` asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from cluster.core.carry import carry_schema
from cluster.core.plan.shard_plan import Shard
from cluster.core.settings import ClusterSettings, InputSettings, OutputSettings, StateSettings, StepSettings, Tail
from cluster.runtime.carry.carry_plan import find_carry
from cluster.runtime.commit.run_request import CarryRequest, ScoreRequest
from cluster.runtime.fleet.fleet import Answer
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.replica.node_check import NodeNeeds
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.replica.replica_actor import Lease, ReplicaActor, ReplicaInfo, ReplicaSpec, Sources
from cluster.runtime.run.run import score
from cluster.runtime.watch.timeline import Moment
from lstm_core.contract.model_contract import ModelContract

Loaded = tuple[Any, ReplicaInfo]
_IDLE: dict[Any, list[Loaded]] = {}  # compiled models that no replica has, by what they were compiled from


class InProcessActor(ReplicaActor):
    """The real actor; a model that an earlier run in this process has compiled is taken over in zero state."""

    @staticmethod
    def load(spec: ReplicaSpec, model: bytes) -> Loaded:
        idle = _IDLE.get(_compiled_from(spec, model))
        if not idle:
            return ReplicaActor.load(spec, model)
        loaded = idle.pop()
        loaded[0].reset_all()
        return loaded

    def give_back(self, model: bytes, *, idle: bool) -> None:
        """Ends the actor, else its threads would hold its arena for the rest of the tests.

        The model of one that was `idle` may serve another; a thread may still step that of one that was broken off.
        """
        self.close()
        if idle and self._refusal is None:
            _IDLE.setdefault(_compiled_from(self._spec, model), []).append((self._replica, self._info))


def _compiled_from(spec: ReplicaSpec, model: bytes) -> Any:
    return model, spec.step, spec.threads, spec.gpu


class InProcessReplicas:
    """Implements `ray_cluster.Replicas`."""

    actor = InProcessActor

    def __init__(self, spec: ReplicaSpec, model: bytes) -> None:
        self._spec, self._model = spec, model
        self._actors: dict[int, InProcessActor] = {}
        self._unready: list[int] = []
        self._counters: dict[int, Counters] = {}
        self._turn = 0
        self._open: set[int] = set()  # shards that are assigned and have no final fragment yet
        self.sources: Sources | None = None

    @property
    def counters(self) -> list[Counters]:
        return list(self._counters.values())

    def start(self, replica: int) -> None:
        if replica not in self._actors:
            self._actors[replica] = self.actor(self._spec, self._model)
            self._unready.append(replica)

    def begin(self, sources: Sources) -> None:
        self.sources = sources

    def assign(self, replica: int, shard: Shard, attempt: int, fragments: int) -> None:
        self._open.add(shard.index)
        self._actors[replica].assign(Lease(shard, attempt, fragments))

    def answers(self, timeout_s: float) -> list[Answer]:
        if self._unready:
            replica = self._unready.pop(0)
            return [Answer(replica, ready=self._actors[replica].begin(self.sources))]
        replica = sorted(self._actors)[self._turn % len(self._actors)]
        self._turn += 1
        report = self._actors[replica].poll(0.02)
        self._counters[replica] = report.counters
        self._open -= {fragment.shard for fragment in report.fragments if fragment.final}
        return [Answer(replica, report=report)]

    def stop(self) -> None:
        for actor in self._actors.values():
            actor.give_back(self._model, idle=not self._open)
        self._actors.clear()


class InProcessCluster:
    """Implements `ray_cluster.Cluster`."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings

    def metrics(self, run_id: str) -> Callable[[Moment], None]:
        return lambda moment: None

    def check(self, needs: NodeNeeds) -> None:
        """This process lacks nothing."""

    def replica_count(self) -> int:
        return self._settings.replicas or 1

    def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
        return InProcessReplicas(spec, model)

    def map(self, function: Callable[[str], Any], items: Sequence[str]) -> Iterable[Any]:
        return map(function, items)


@contextmanager
def in_process(settings: ClusterSettings) -> Iterator[InProcessCluster]:
    """For `score(request, open_cluster=in_process)`."""
    yield InProcessCluster(settings)


@dataclass(frozen=True)
class Job:
    """What a test wants scored; the rest has defaults."""

    model: bytes
    path: Path
    output: Path
    features: tuple[tuple[str, tuple[str, ...]], ...]
    step: StepSettings = field(default_factory=StepSettings)
    replicas: int = 1
    input: dict[str, Any] = field(default_factory=dict)
    write: dict[str, Any] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    quarantine_limit: float = 0.01
    run_id: str = "test"
    tail: Tail = "mask"

    def request(self) -> ScoreRequest:
        """The run, as `jobs.commands.score` would ask for it."""
        from tests.models.keras_models import (
            contract_of,  # which hides GPUs: not from whoever measures them with `in_process`
        )

        contract = contract_of(self.model, "the test's model")
        columns: dict[str, Any] = {"entity": ("entity",), "time": ("time",), **self.input}
        columns |= {"window": contract.window, "tail": self.tail, "chunk": contract.chunk or self.step.chunk}
        if "late" in self.state:
            columns["late"] = self.state["late"]
        settings = InputSettings(path=(str(self.path),), features=self.features, **columns)
        return ScoreRequest(
            run_id=self.run_id,
            identity=self.run_id,
            run="0test0",
            model=self.model,
            contract=contract,
            input=settings,
            step=self.step,
            output=OutputSettings(path=str(self.output), names=contract.score_names, **self.write),
            cluster=ClusterSettings(replicas=self.replicas, **self.cluster),
            quarantine_limit=self.quarantine_limit,
            carry=self._carry(settings, contract),
        )

    def _carry(self, settings: InputSettings, contract: ModelContract) -> CarryRequest | None:
        state = StateSettings(**{name: str(value) for name, value in self.state.items()})
        if state.read is None and state.write is None:
            return None
        found = check_schema(settings, contract, list_files(settings))
        return find_carry(state, carry_schema(found, settings, contract))


def run(job: Job) -> dict[str, Any]:
    """Scores in this process; returns run.json."""
    return score(job.request(), open_cluster=in_process)


def scores(output: Path) -> Any:
    """The output's rows, in file order."""
    return ds.dataset(sorted(output.glob("*.parquet"))).to_table()


def tidy(output: Path) -> Any:
    """The output's rows, in the order of `tidied`."""
    return tidied(scores(output))


def tidied(table: Any) -> Any:
    """Rows by entity and time."""
    return table.sort_by([("entity", "ascending"), ("time", "ascending")])
