"""What a seed decides: the input, the cluster and the storm. Swarm testing: each seed has its own mixture of faults."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.sim.faults import CRASHES, Fault

MAYBE = (Fault.LOST, Fault.LANDED, Fault.HALF, Fault.LATE)


@dataclass(frozen=True)
class Sizes:
    """The input and the machine."""

    lengths: tuple[int, ...]  # rows per entity
    good: tuple[int, ...]  # rows before the entity's first bad one; its length where all are good
    poison: frozenset[int]  # entities whose last row kills whoever scores it
    shard_rows: int
    slots: int
    chunk: int
    replicas: int
    max_attempts: int
    arena_rows: int
    rows_per_file: int
    checkpoint: float  # chance per step and shard that a fragment is cut
    carry: bool = False  # what entities leave behind is written as well


@dataclass(frozen=True)
class Storm:
    """Chances of faults while the storm lasts; seconds are virtual."""

    lasts_s: float
    death: float = 0.0  # per step: a replica dies
    start_death: float = 0.0  # per start
    parted: float = 0.0  # per step: a replica is taken for dead and works on
    leave: float = 0.0  # per step: a replica's node is about to leave, and does so within half a minute
    resize: float = 0.0  # per second: nodes come or go
    straggler: float = 0.0  # per replica: steps take 8 times as long
    twice: float = 0.0  # per answer: it comes a second time
    delay_s: float = 0.1  # most time that an answer takes
    kill: float = 0.0  # per second: the driver is killed
    pause: float = 0.0  # per store call: the driver stops for up to a minute
    rival: float = 0.0  # per second: somebody starts the same job again
    store: float = 0.0  # per call of a driver
    store_kinds: tuple[Fault, ...] = ()
    fail_at: int | None = None  # this call of the first driver's store fails
    pause_at: int | None = None  # at this one it stops for a minute, while somebody else starts the same job
    disk: float = 0.0  # per call of a replica


@dataclass(frozen=True)
class Options:
    """All that a seed decides before anything happens."""

    sizes: Sizes
    storm: Storm


def draw(rng: random.Random) -> Options:
    """One seed's options."""
    return Options(_sizes(rng), _storm(rng))


def _sizes(rng: random.Random) -> Sizes:
    lengths = tuple(
        rng.randint(15, 50) if rng.random() < 0.25 else rng.randint(1, 10) for _ in range(rng.randint(1, 8))
    )
    bad, poison = rng.choice((0.0, 0.0, 0.2)), rng.choice((0.0, 0.0, 0.0, 0.15))
    return Sizes(
        lengths=lengths,
        good=tuple(rng.randrange(length) if rng.random() < bad else length for length in lengths),
        poison=frozenset(entity for entity in range(len(lengths)) if rng.random() < poison),
        shard_rows=rng.choice((4, 10, 20, 100)),
        slots=rng.randint(1, 4),
        chunk=rng.randint(1, 5),
        replicas=rng.randint(1, 3),
        max_attempts=rng.choice((1, 3, 6)),
        arena_rows=rng.choice((10, 40, 1000)),
        rows_per_file=rng.choice((4, 12, 1000)),
        checkpoint=rng.choice((0.0, 0.15, 0.4, 1.0)),
        carry=rng.random() < 0.5,
    )


def _storm(rng: random.Random) -> Storm:
    def maybe(share: float, *values: float) -> float:
        return rng.choice(values) if rng.random() < share else 0.0

    return Storm(
        lasts_s=rng.choice((0.0, 10.0, 30.0, 60.0)),
        death=maybe(0.5, 0.01, 0.05, 0.2),
        start_death=maybe(0.2, 0.1, 0.4),
        parted=maybe(0.4, 0.02, 0.1),
        straggler=maybe(0.3, 0.3),
        twice=maybe(0.4, 0.05, 0.5),
        delay_s=rng.choice((0.01, 0.3, 3.0)),
        kill=maybe(0.4, 0.05, 0.2),
        pause=maybe(0.2, 0.01, 0.05),
        rival=maybe(0.3, 0.05, 0.2),
        store=maybe(0.4, 0.005, 0.03, 0.1),
        store_kinds=rng.choice(((Fault.REFUSED,), MAYBE, CRASHES, tuple(Fault))),
        fail_at=rng.randrange(120) if rng.random() < 0.3 else None,
        pause_at=rng.randrange(60) if rng.random() < 0.2 else None,
        disk=maybe(0.2, 0.005, 0.03),
        leave=maybe(0.3, 0.02, 0.1),
        resize=maybe(0.3, 0.05, 0.3),
    )
