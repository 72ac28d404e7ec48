"""The figures of a run for Prometheus, through Ray: whoever scrapes the cluster has them.

What it decides: names and tags. Counters grow over a driver's life, gauges say how it is now; the only tags are the
run's name and a stage's, never an entity. Ray's own agents export them, on every node, with `ray_` before the name.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from cluster.runtime.watch.timeline import STAGES, Moment

RUN, STAGE = "run", "stage"
COUNTERS = {
    "rows": "Rows that model steps have scored",
    "steps": "Model steps",
    "replica_deaths": "Replicas that died",
    "retries": "Attempts at a shard beyond its first",
}
GAUGES = {
    "replicas": "Replicas that can step",
    "replicas_wanted": "Replicas that the run is to have",
    "slot_occupancy": "Share of slot-steps that carried an entity, since the start",
    "stragglers": "Replicas whose steps take more than twice as long as most",
    "shards_done": "Shards that are committed",
    "shards_left": "Shards that are not committed yet",
    "rows_left": "Rows that are not scored yet",
    "batches_waiting": "Batches that wait for their step, over all replicas",
    "results_waiting": "Results of steps that wait to be put in their place, over all replicas",
    "cuts_waiting": "Fragments that wait to be written, over all replicas",
}


class PrometheusMetrics:
    """The figures of one session, on Ray; there must be a connection."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._counters = {name: Counter(f"slotcar_{name}", text, (RUN,)) for name, text in COUNTERS.items()}
        self._gauges = {name: Gauge(f"slotcar_{name}", text, (RUN,)) for name, text in GAUGES.items()}
        self._stages = Counter("slotcar_stage_seconds", "Busy seconds of a stage, over all replicas", (RUN, STAGE))
        self._told: dict[str, float] = {}

    def show(self, moment: Moment) -> None:
        """Exports how the run stands."""
        for name, value in counted(moment).items():
            self._grow(self._counters[name], name, value, {RUN: self._run_id})
        for name, value in measured(moment).items():
            self._gauges[name].set(value, {RUN: self._run_id})
        for stage in STAGES:
            spent = sum(getattr(one, f"{stage}_s") for one in moment.counters)
            self._grow(self._stages, f"stage {stage}", spent, {RUN: self._run_id, STAGE: stage})

    def _grow(self, counter: Counter, name: str, value: float, tags: Mapping[str, str]) -> None:
        """Ray's counters are told by how much they grow, and never by nothing."""
        more = value - self._told.get(name, 0.0)
        if more > 0:
            self._told[name] = value
            counter.inc(more, dict(tags))


def counted(moment: Moment) -> dict[str, float]:
    """The counters' values."""
    progress, counters = moment.progress, moment.counters
    return {
        "rows": sum(one.rows for one in counters),
        "steps": sum(one.steps for one in counters),
        "replica_deaths": progress.replica_deaths,
        "retries": progress.retries,
    }


def measured(moment: Moment) -> dict[str, float]:
    """The gauges' values."""
    progress, counters = moment.progress, moment.counters
    return {
        "replicas": progress.replicas,
        "replicas_wanted": progress.replicas_wanted,
        "slot_occupancy": progress.occupancy,
        "stragglers": progress.stragglers,
        "shards_done": progress.shards_done,
        "shards_left": progress.shards_total - progress.shards_done,
        "rows_left": progress.rows_total - progress.rows_done,
        "batches_waiting": sum(one.batches_waiting for one in counters),
        "results_waiting": sum(one.results_waiting for one in counters),
        "cuts_waiting": sum(one.cuts_waiting for one in counters),
    }
