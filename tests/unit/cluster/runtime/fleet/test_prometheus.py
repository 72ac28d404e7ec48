"""The figures of a run as Prometheus gets them: what is summed over replicas, and what is of those that live only."""

from __future__ import annotations

from cluster.runtime.fleet.prometheus import COUNTERS, GAUGES, counted, measured
from cluster.runtime.replica.pipeline import Counters
from cluster.runtime.watch.timeline import Moment
from tests.unit.cluster.runtime.watch.test_timeline import progress

BUSY = Counters(steps=3, rows=40, batches_waiting=2, results_waiting=1, cuts_waiting=5)


def test_every_figure_that_is_named_has_a_value() -> None:
    moment = Moment(progress(), [])
    assert set(counted(moment)) == set(COUNTERS)
    assert set(measured(moment)) == set(GAUGES)


def test_queues_are_summed_over_replicas_and_those_of_the_dead_are_empty() -> None:
    moment = Moment(progress(), [BUSY, BUSY, BUSY.at_rest()])
    found = measured(moment)
    assert [found[f"{name}_waiting"] for name in ("batches", "results", "cuts")] == [4, 2, 10]
    assert counted(moment)["rows"] == 120
