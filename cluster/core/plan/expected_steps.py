"""What the steps of a replica will look like, as far as a plan tells: which compiled sizes it will want.

Decides when a few long entities are a tail, behind which all other slots are empty. Leaves sizes to
`lstm_core.step.step_sizes`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.plan.shard_plan import PlanHead

TAIL_STEPS = 64  # that the longest entity goes on behind a slot's share of the rows, before a tail is worth a size


@dataclass(frozen=True)
class ExpectedSteps:
    """What the steps of one of several like replicas will look like."""

    width: int  # entities that it will have, as far as they count
    rows: int  # of the longest entity
    tail: int  # entities that go on for long when all slots have had their share of the rows, few as they may be


def working_replicas(head: PlanHead, replicas: int) -> int:
    """Of so many replicas those that step at all: a shard is one replica's, so no more than there are shards."""
    return max(1, min(replicas, len(head.shards)))


def expected_steps(head: PlanHead, *, replicas: int, slots: int, chunk: int) -> ExpectedSteps:
    """The extent of a replica's steps, for the tail a guess: of each shard only the longest entity is known."""
    replicas = working_replicas(head, replicas)
    share = head.rows_planned / (replicas * slots)  # rows of a slot, were all to end together
    tail = 0
    if head.longest_rows > share + TAIL_STEPS * chunk:
        tail = 2 * -(-sum(shard.longest_rows > share for shard in head.shards) // replicas)
    width = -(-head.entities // replicas)
    return ExpectedSteps(width, head.longest_rows, min(tail, width))
