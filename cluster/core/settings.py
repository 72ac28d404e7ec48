"""What a run was asked for, as plain values.

`jobs.config.configuration` checks the user's file and makes these; everything below `jobs` sees only them. They are
frozen, small and picklable, so that a task or an actor can be handed the whole of what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cluster.core.locations import Option

Layout = Literal["auto", "clustered", "shuffle"]
BadEntity = Literal["quarantine", "fail"]
Ties = Literal["keep", "fail"]
Missing = Literal["reset", "fail"]
Late = Literal["quarantine", "drop", "fail"]
Tail = Literal["mask", "drop"]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]
CHUNK_INDEX, CHUNK_COUNT, LENGTH = "@chunk_index", "@chunk_count", "@length"
CONTEXT = (CHUNK_INDEX, CHUNK_COUNT, LENGTH)  # features that stand in no file: where in its entity a row's chunk is
WINDOW_START, WINDOW_ROWS = "window_start", "window_rows"  # columns of an output with one row per window


@dataclass(frozen=True)
class Fill:
    """What a null or NaN of one feature column becomes: a value, or the entity's last known one."""

    value: float | str | None = None
    previous: bool = False


@dataclass(frozen=True)
class InputSettings:
    """Which rows are read, and what their columns mean."""

    path: tuple[str, ...]
    entity: tuple[str, ...]
    time: tuple[str, ...]
    features: tuple[tuple[str, tuple[str, ...]], ...]  # (model input name, its columns), in the model's order
    since: str | None = None
    until: str | None = None
    layout: Layout = "auto"
    fill: dict[str, Fill] = field(default_factory=dict)
    vocabulary: dict[str, tuple[str, ...]] = field(default_factory=dict)  # column -> words; a word's code is 1 + index
    keep: tuple[str, ...] = ()
    target: tuple[str, ...] = ()  # training only; where rows are weighted, the column of their weights stands last
    bad_entity: BadEntity = "quarantine"
    ties: Ties = "keep"
    storage: dict[str, Option] = field(default_factory=dict)  # how remote files are reached; never a secret
    late: Late = "quarantine"
    version: int | None = None  # of a Delta Lake or Iceberg table
    window: int | None = None  # rows of a window, for a model with one score per window
    tail: Tail = "mask"  # what becomes of an entity's rows that do not fill one
    chunk: int | None = None  # timesteps of a step, for features of context
    page_checksums: bool = True  # look at those that the input's pages carry
    weighted: bool = False  # training only: the last column of `target` holds weights

    @property
    def feature_columns(self) -> tuple[str, ...]:
        """Every feature column of the files once, in the order of first use."""
        columns = dict.fromkeys(column for _, columns in self.features for column in columns)
        return tuple(column for column in columns if column not in CONTEXT)

    @property
    def needed_columns(self) -> frozenset[str]:
        """Every column of the input that the run reads."""
        return frozenset((*self.entity, *self.time, *self.feature_columns, *self.keep, *self.target))


@dataclass(frozen=True)
class StepSettings:
    """The fixed shape of a step: part of the run's identity, since a score's last bits depend on it."""

    slots: int = 256
    chunk: int = 64
    jit: bool = True


@dataclass(frozen=True)
class OutputSettings:
    """Where and how scores are written."""

    path: str
    names: tuple[str, ...]  # one per score value
    rows_per_file: int = 1_000_000
    compression: Compression = "zstd"
    overwrite: bool = False
    storage: dict[str, Option] = field(default_factory=dict)
    delta: str | None = None  # a Delta table that the scores are appended to


@dataclass(frozen=True)
class StateSettings:
    """Where carry-over comes from and goes to, and what becomes of what does not fit it."""

    read: str | None = None
    write: str | None = None
    missing: Missing = "reset"  # an entity without carry-over
    late: Late = "quarantine"  # rows that are not after the carried last time

    @property
    def used(self) -> bool:
        """True where a run reads or writes carry-over."""
        return self.read is not None or self.write is not None


@dataclass(frozen=True)
class ClusterSettings:
    """What the cluster is asked for."""

    address: str = ""
    replicas: int | None = None
    cpus_per_replica: float = 1
    gpus_per_replica: float = 0
    max_attempts: int = 3
    checkpoint_s: float = 60.0
