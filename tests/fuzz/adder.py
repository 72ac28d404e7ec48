"""A model without Keras, for runs in a process that starts quickly: the score of a row is a sum over its entity so far.

`a` and `b` weigh differently, so that a lost row, another order, a wrong column or a wrong entity changes a score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from cluster.core.settings import ClusterSettings
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore
from cluster.runtime.replica.replica_actor import ReplicaInfo, ReplicaSpec
from lstm_core.contract.model_contract import InputContract, ModelContract, OutputContract, RecurrentContract
from tests.harness.inprocess import InProcessActor, InProcessCluster, InProcessReplicas
from tests.inputs.laid import Array, RunningSum

SLOTS, CHUNK = 4, 4
WEIGHTS = np.array([1.0, 3.0])  # of a and b
INFO = ReplicaInfo(pid=0, node="", node_id="", device="cpu", import_s=0.0, compile_s=0.0, versions={})
CONTRACT = ModelContract(
    inputs=(InputContract("rows", "numeric", 2, 3, "float32", None),),
    outputs=(OutputContract("score", 1),),
    recurrent=(RecurrentContract("sum", "RNN", ((1,),), stateful=True),),
    chunk=None,
    batch=None,
    fingerprint="adder",
    parameters=0,
    flop_per_row=1,
)


def weighed(rows: Array) -> Array:
    """Rows (..., 2) -> what each adds (...)."""
    return np.asarray(rows, np.float64) @ WEIGHTS


class Adder(RunningSum):
    """Stands for a `StatefulReplica`."""

    kernel = "adder"
    reach = None
    group = (1, CHUNK)

    def fit(self, lengths: Array) -> tuple[int, int]:
        return SLOTS, CHUNK

    def prepare(self, *sizes: Any) -> None:
        """It has one size."""

    def step(self, rows: Sequence[Array], reset: Array, lengths: Array) -> list[Any]:
        return super().step([weighed(rows[0])[..., None]], reset, lengths)


class AdderActor(InProcessActor):
    """The real actor with this model."""

    @staticmethod
    def load(spec: ReplicaSpec, model: bytes) -> Any:
        return Adder(spec.step.slots), INFO


class AdderReplicas(InProcessReplicas):
    actor = AdderActor


class AdderCluster(InProcessCluster):
    def replicas(self, spec: ReplicaSpec, model: bytes) -> InProcessReplicas:
        return AdderReplicas(spec, model)


@contextmanager
def adding(settings: ClusterSettings) -> Iterator[InProcessCluster]:
    """For `score(request, open_cluster=adding)`."""
    yield AdderCluster(settings)


class Alone:
    """Stands for a `Reference`: one entity at once."""

    def score(self, rows: Sequence[Array], states: Any = None) -> list[Array]:
        return [np.cumsum(weighed(rows[0])).astype(np.float32)[:, None]]


class AdderAudit(AuditActor):
    """The real audit with this model."""

    def _load(self) -> Any:
        return Alone()


@contextmanager
def adding_again(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
    """For `rescore(..., open_rescore=adding_again)`."""
    yield AdderAudit(spec, model).rescore
