"""`slotcar plan CONFIG`: what `score` would do, without loading a model's weights into replicas or starting a cluster.

Reads footers and key columns in threads of this machine. Where the number of replicas is not configured, it predicts
for one per CPU of this machine, which is what an embedded cluster would have, and says so: no cluster is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

from rich.console import Group, RenderableType
from rich.table import Table

from cluster.core.carry import carry_schema
from cluster.core.plan.expected_steps import working_replicas
from cluster.core.plan.inventory import Inventory
from cluster.core.plan.lost_files import refuse_gone, refuse_lost
from cluster.core.plan.shard_plan import (
    CLUSTERED_REMEDY,
    Plan,
    choose_shard_entities,
    choose_shard_rows,
    make_plan,
    refuse_interleaved,
    why_shuffle,
)
from cluster.core.settings import ClusterSettings, InputSettings, StepSettings
from cluster.core.simulate.run_simulation import SimulatedRun
from cluster.runtime.carry.carry_plan import find_carry, find_known, settle_types
from cluster.runtime.commit.run_request import CarryRequest
from cluster.runtime.input.column_checks import check_schema
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.plan.input_scan import Item, Value, make_inventory
from jobs import plan_simulation
from jobs.config.configuration import Config
from jobs.config.model_proof import contract_of
from jobs.plan_simulation import Simulation, simulate
from lstm_core.contract.model_contract import ModelContract
from lstm_core.json_types import JsonObject
from lstm_core.packing.packer import predict


@dataclass(frozen=True)
class PlanReport:
    """What a run would find and do."""

    layout: str
    reason: str  # why this layout
    shuffle: bool  # a run clusters the input first
    files: int  # that can be read
    files_lost: int  # that cannot, and whose entities go into quarantine
    rows_in: int  # = rows + rows_skipped + rows_bad
    rows: int  # that would be scored, as far as key columns tell
    rows_skipped: int  # outside since and until
    rows_bad: int  # without an entity or a time
    entities: int
    entities_unsorted: int  # not in order of time: sorted when they are read
    ties: int  # rows whose time is that of the row before them
    longest_rows: int  # of the longest entity
    shards: int
    shard_rows: int  # the bound of a shard, in rows
    slots: int
    chunk: int
    replicas: int
    steps: int  # of each replica that has a shard
    steps_lower_bound: int  # no schedule takes fewer
    slot_occupancy: float  # share of these replicas' slot-steps that carry an entity
    entities_known: int | None = None  # that state.read holds; None where nothing is read
    entities_absent: int | None = None  # that state.read holds and the input does not name: handed on
    replicas_assumed: str = ""  # where their number is not given: how it was guessed
    simulated: tuple[SimulatedRun, ...] = ()

    def as_dict(self) -> JsonObject:
        """The report as plain values, for JSON."""
        return {**asdict(self), "simulated": plan_simulation.rows(self.simulated)}

    def render(self) -> RenderableType:
        """The report as a table for a terminal."""
        table = Table(show_header=False)
        table.add_row("layout", f"{self.layout}: {self.reason}")
        if self.shuffle:
            table.add_row("first", "the rows are clustered by entity, into temporary Parquet below OUTPUT/_slotcar")
        table.add_row("files", f"{self.files:,}")
        if self.files_lost:
            table.add_row("lost", f"{self.files_lost:,} files cannot be read; their entities go into quarantine")
        table.add_row("rows", f"{self.rows:,} of {self.rows_in:,}{self._left_out()}")
        table.add_row("entities", f"{self.entities:,}, the longest with {self.longest_rows:,} rows")
        if self.entities_known is not None:
            table.add_row(
                "carry-over", f"{self.entities_known:,} entities go on, {self.entities_absent:,} others are handed on"
            )
        table.add_row("equal times", f"{self.ties:,} rows")
        table.add_row("shards", f"{self.shards:,} of at most {self.shard_rows:,} rows, or one longer entity")
        table.add_row("replicas", f"{self.replicas:,} of {self.slots:,} slots, {self.chunk:,} timesteps a step")
        if self.shards < self.replicas:
            table.add_row("", f"{self.replicas - self.shards:,} of them have nothing to do: there are too few shards")
        if self.replicas_assumed:
            table.add_row("", self.replicas_assumed)
        table.add_row("steps", f"{self.steps:,} per replica; no schedule takes fewer than {self.steps_lower_bound:,}")
        table.add_row("slot occupancy", f"{self.slot_occupancy:.1%}")
        return Group(table, plan_simulation.render(self.simulated)) if self.simulated else table

    def _left_out(self) -> str:
        skipped = f"; {self.rows_skipped:,} outside since and until" if self.rows_skipped else ""
        return skipped + (f"; {self.rows_bad:,} without entity or time" if self.rows_bad else "")


def run(config: Config, simulated: Sequence[str] = ()) -> PlanReport:
    """Plan the run that `config` asks for; `simulated` are the words of --simulate.

    Raises UsageError for what `score` would refuse, InputBroken as it would.
    """
    asked = Simulation.parse(simulated) if simulated else None
    contract = contract_of(config, config.model_bytes())
    settings = config.input_settings(contract)
    rows_per_file = config.output_settings(contract).rows_per_file
    inventory = scan_input(settings, contract)
    schema = carry_schema(inventory.columns, settings, contract)
    shard_rows = choose_shard_rows(inventory.rows_in, rows_per_file=rows_per_file)
    state = config.state_settings()
    bound = None if state.read is state.write is None else choose_shard_entities(schema.state_bytes)
    made = make_plan(inventory, shard_rows=shard_rows, shard_entities=bound)
    if settings.layout == "clustered":
        refuse_interleaved(inventory, CLUSTERED_REMEDY)
    shuffle = settings.layout == "shuffle" or (
        settings.layout == "auto" and why_shuffle(inventory, shard_rows=shard_rows) is not None
    )
    _refuse_lost(config, inventory, shuffle=shuffle)
    step, cluster = config.step_settings(contract), config.cluster_settings()
    found = report(made, step, _replicas(cluster), shuffle=shuffle)
    found = replace(found, replicas_assumed=_assumption(cluster))
    if asked is not None:
        forecasts = simulate(asked, made.shards, step, cluster, contract.flop_per_row)
        found = replace(found, simulated=tuple(forecasts))
    carry = find_carry(state, schema, config.document.storage)
    if carry is None or carry.read is None:
        return found
    return _with_carry(found, inventory, settle_types(carry, inventory, settings))


def _refuse_lost(config: Config, inventory: Inventory, *, shuffle: bool) -> None:
    """Where a run would end over a file that cannot be read."""
    if shuffle:
        refuse_lost(inventory)
    if config.document.state.write is not None:
        refuse_gone(inventory)


def _with_carry(found: PlanReport, inventory: Inventory, carry: CarryRequest) -> PlanReport:
    known = int((find_known(inventory.keys, carry) >= 0).sum())
    return replace(found, entities_known=known, entities_absent=sum(file.rows for file in carry.files) - known)


def report(plan: Plan, step: StepSettings, replicas: int, *, shuffle: bool) -> PlanReport:
    """A plan, and what scoring it with `replicas` replicas would take; with `shuffle` it is clustered first."""
    head = plan.head
    working = working_replicas(head, replicas)
    expected = predict(plan.inventory.entity_rows, slots=step.slots, chunk=step.chunk, replicas=working)
    return PlanReport(
        layout=head.layout,
        reason=head.reason,
        shuffle=shuffle,
        files=len(head.files),
        files_lost=head.files_lost,
        rows_in=head.rows_in,
        rows=head.rows_planned,
        rows_skipped=head.rows_skipped,
        rows_bad=head.rows_bad,
        entities=head.entities,
        entities_unsorted=head.entities_unsorted,
        ties=head.ties,
        longest_rows=head.longest_rows,
        shards=len(head.shards),
        shard_rows=head.shard_rows,
        slots=step.slots,
        chunk=step.chunk,
        replicas=replicas,
        steps=expected.steps,
        steps_lower_bound=expected.lower_bound_steps,
        slot_occupancy=expected.occupancy,
    )


def scan_input(settings: InputSettings, contract: ModelContract) -> Inventory:
    files = list_files(settings)
    check_schema(settings, contract, files)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:

        def scan_all(scan: Callable[[Item], Value], batches: Sequence[Item]) -> Iterable[Value]:
            return threads.map(scan, batches)

        return make_inventory(settings, scan_all, files)


def _assumption(settings: ClusterSettings) -> str:
    """What a run may find otherwise: a plan starts nothing, and asks no cluster."""
    if settings.replicas is not None:
        return ""
    if settings.address:
        return f"one per CPU of this machine: the cluster at {settings.address} was not asked; give cluster.replicas"
    return "one per CPU of this machine, as cluster.replicas is not given"


def _replicas(settings: ClusterSettings) -> int:
    return settings.replicas or max(1, int((os.cpu_count() or 1) / max(settings.cpus_per_replica, 1)))
