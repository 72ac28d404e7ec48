"""What the scheduler asks for. The runtime carries it out, in order; simulations pretend to."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.commit import Fragment


@dataclass(frozen=True)
class StartReplica:
    """Start one more replica."""

    replica: int


@dataclass(frozen=True)
class Assign:
    """Lease a shard to a replica under an attempt number."""

    replica: int
    shard: int
    attempt: int
    fragments: int = 0  # of the shard that are committed: the attempt goes on behind them


@dataclass(frozen=True)
class Commit:
    """Write the fragment's record and publish it."""

    fragment: Fragment


@dataclass(frozen=True)
class Discard:
    """Remove a staged fragment: its attempt is stale, or the same fragment is committed already."""

    fragment: Fragment
    why: str


@dataclass(frozen=True)
class Quarantine:
    """Give a shard up: its rows that are not committed go into quarantine, under its next fragment number."""

    shard: int
    attempt: int
    fragments: int
    cause: str


@dataclass(frozen=True)
class Finish:
    """Every shard is committed."""


@dataclass(frozen=True)
class Fail:
    """Stop: the run cannot be finished now."""

    cause: str
    again: bool | None = False  # the same run would meet it once more; None where nobody knows


Action = StartReplica | Assign | Commit | Discard | Quarantine | Finish | Fail
