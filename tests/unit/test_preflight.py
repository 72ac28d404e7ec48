"""What a cluster may lack, as sentences. `test_score_on_ray` has the same asked of a real one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.core.settings import ClusterSettings
from cluster.runtime.preflight import NodeView, lack_of_room, unfit

SMALL, LARGE = {"CPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}
MINE = {"tensorflow": "2.21.0", "keras": "3.15.1"}
NODE = NodeView("n1", MINE, None)


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


def test_a_node_like_the_drivers_is_fit() -> None:
    assert unfit(NODE, MINE, "output.path out") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"versions": {"keras": "3.15.1", "tensorflow": None}}, "Node n1 lacks tensorflow, expected 2.21.0"),
        ({"versions": {**MINE, "keras": "3.16.0"}}, "Node n1 has keras 3.16.0, the driver 3.15.1: scores could differ"),
        ({"fault": "no such folder"}, "Node n1 does not see output.path out (no such folder): mount it"),
    ],
)
def test_a_node_that_lacks_something_is_told_by_name(changes: Any, said: str) -> None:
    assert (unfit(replace(NODE, **changes), MINE, "output.path out") or "").startswith(said)
