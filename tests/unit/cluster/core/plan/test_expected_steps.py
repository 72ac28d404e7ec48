"""What a plan tells of a replica's steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster.core.plan.expected_steps import ExpectedSteps, expected_steps, working_replicas
from cluster.core.plan.shard_plan import PlanHead, shard_groups, shards_of


def head_of(lengths: Sequence[int], shard_rows: int) -> PlanHead:
    rows = np.array(lengths, np.int64)
    shards = shards_of(shard_groups(rows, shard_rows), rows, shard_rows)
    total = int(rows.sum())
    return PlanHead((), shards, ("entity",), ("time",), shard_rows, "clustered", "", total, 0, 0, len(rows), 0, 0)


def test_the_extent_of_a_replicas_steps_has_a_tail_where_few_entities_go_on_alone() -> None:
    few = head_of([25_000] * 64, 32_768)
    assert expected_steps(few, replicas=2, slots=256, chunk=64) == ExpectedSteps(32, 25_000, 32)
    alike = head_of([1_000] * 4_096, 65_536)
    assert expected_steps(alike, replicas=2, slots=256, chunk=64) == ExpectedSteps(2_048, 1_000, 0)
    skewed = head_of([20_000, *[1_000] * 4_000, 16_000, 15_000], 65_536)
    assert expected_steps(skewed, replicas=2, slots=256, chunk=64) == ExpectedSteps(2_002, 20_000, 2)


def test_replicas_without_a_shard_take_no_step() -> None:
    one = head_of([1_000] * 64, 65_536)
    assert [working_replicas(one, count) for count in (1, 2, 9)] == [1, 1, 1]
    assert expected_steps(one, replicas=9, slots=256, chunk=64) == expected_steps(one, replicas=1, slots=256, chunk=64)
    assert working_replicas(head_of([25_000] * 64, 32_768), 9) == 9
    assert working_replicas(head_of([], 65_536), 3) == 1
