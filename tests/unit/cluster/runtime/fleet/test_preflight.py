"""What room a cluster may lack, as sentences. `test_score_on_ray` has the same asked of a real one."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.preflight import lack_of_room

SMALL, LARGE = {"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("needs", "offers", "growth"),
    [
        ({}, [SMALL], None),
        ({"replicas": 99}, [SMALL], None),  # as many as there is room for
        ({"cpus_per_replica": 8}, [SMALL, LARGE], None),
        ({"gpus_per_replica": 0.5}, [SMALL, LARGE], None),
        ({"cpus_per_replica": 0}, [{}], None),
        ({}, [{}], SMALL),  # a head without CPUs, and workers that are yet to come
        ({"gpus_per_replica": 1}, [{}], LARGE),
    ],
)
def test_one_replica_that_can_be_placed_is_enough(needs: Any, offers: Any, growth: Any) -> None:
    assert lack_of_room(offers, growth, ClusterSettings(**needs)) is None


@pytest.mark.parametrize(
    ("needs", "offers", "said"),
    [
        ({"cpus_per_replica": 4}, [SMALL, SMALL], "can hold a replica of 4 CPUs and 0 GPUs: the largest has 2 CPUs"),
        ({}, [], "the largest has 0 CPUs and 0 GPUs"),
        ({"gpus_per_replica": 1}, [SMALL], "no node of the cluster has a GPU"),
        ({"gpus_per_replica": 2}, [LARGE], "the largest has 8 CPUs and 1 GPUs"),
    ],
)
def test_no_room_for_any_is_said(needs: Any, offers: Any, said: str) -> None:
    assert said in (lack_of_room(offers, None, ClusterSettings(**needs)) or "")
