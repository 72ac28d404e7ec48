"""What may happen to a run. The runtime translates Ray's answers and errors into these; simulations make them up."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.commit import Fragment


@dataclass(frozen=True)
class Demand:
    """What a replica needs so that its slots stay fed, as it says itself."""

    wanted_entities: int  # so many at hand beside those it has would fill its slots, and all of them once again
    shards_ahead: int  # assigned shards that are not all in slots yet
    rows_free: int  # rows that it has room for
    stream_rows: int = 0  # the room that a streamed shard takes, however long it is
    rows_scored: int = 0  # by it, so far and in all


@dataclass(frozen=True)
class ReplicaReady:
    """A replica has compiled its step and can take shards."""

    replica: int
    demand: Demand


@dataclass(frozen=True)
class ReplicaReported:
    """A replica's regular answer."""

    replica: int
    demand: Demand


@dataclass(frozen=True)
class FragmentStaged:
    """A replica has staged a fragment that is whole and durable."""

    replica: int
    fragment: Fragment


@dataclass(frozen=True)
class ReplicaLost:
    """A replica is gone, with all that it had not staged."""

    replica: int
    cause: str
    with_node: bool = False  # its node has left, which says nothing of the shards that it had


@dataclass(frozen=True)
class ReplicaLeaving:
    """A replica's node is about to leave: what it has staged until then counts."""

    replica: int
    cause: str


@dataclass(frozen=True)
class ClusterChanged:
    """Nodes have come or gone."""

    room: int  # replicas that the cluster can hold now
    wanted: int  # replicas that the run is to have


@dataclass(frozen=True)
class ShardBroken:
    """A replica could not go on for a reason that another replica would meet as well."""

    replica: int
    cause: str
    again: bool | None = False  # so would the same run, once more; None where nobody knows


Event = ReplicaReady | ReplicaReported | FragmentStaged | ReplicaLost | ReplicaLeaving | ClusterChanged | ShardBroken
