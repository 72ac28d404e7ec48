"""The commit, as data: what is written in which order, and what a listing means afterwards.

Order of one fragment:
  1. its rows are staged under `_slotcar/staged/`, whole and durable;
  2. its record is written under `_slotcar/commits/`: this is the commit;
  3. the staged file is renamed into the output: this can be done again by whoever reads the record.
What the fragment's entities leave behind, their carry-over, is a file of the same fragment in a place of its own:
staged before the record, named by it, and published after it. So scores and states always fit each other.
So a reader of `OUTPUT/*.parquet` sees committed fragments only, and a record never names rows that are not durable.
Names carry run, shard and fragment number, and no attempt: the same rows get the same name whoever writes them.
A record is written once and never replaced. So what a dead attempt has left may go as soon as its fragment has a record
that does not name it, and not before: a driver that was taken for dead may still be about to write that record.

What it leaves alone: files. `runtime.commit` acts on what is decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import MISSING, asdict, dataclass, fields

STAGED = "_slotcar/staged"
COMMITS = "_slotcar/commits"
SNAPSHOTS = "_slotcar/snapshots"
QUARANTINE = "_quarantine"
SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class Fragment:
    """One part of a shard's output, staged; with `final` the shard is done."""

    shard: int
    index: int  # 0, 1, ... within the shard, in row order
    attempt: int
    final: bool
    file: str | None  # name in the output; None where no row was scored
    staged: str | None  # name under STAGED
    rows: int  # of the input, that are scored here
    entities: int  # entities with at least one row here; of a long entity's fragments only the first counts it
    checksum: str  # sha256 of the rows
    time_min: str | None
    time_max: str | None
    quarantine_file: str | None = None
    quarantine_staged: str | None = None
    rows_quarantined: int = 0
    entities_quarantined: int = 0
    rows_skipped: int = 0  # late rows that are dropped, and rows that do not fill a window
    carry_file: str | None = None  # name in the place that carry-over is written to; None where there is none
    carry_staged: str | None = None  # name under STAGED there
    carry_rows: int = 0  # entities whose carry-over it holds
    carry_checksum: str | None = None  # sha256 of its rows
    snapshot: str | None = None  # name under SNAPSHOTS: where the next attempt goes on; None in a final fragment
    fence: int = 0  # number of the lock that its driver held
    windows: int | None = None  # rows of the file where each is a window's; None: one per scored row

    @property
    def file_rows(self) -> int:
        """Rows of the file."""
        return self.rows if self.windows is None else self.windows

    @property
    def record_name(self) -> str:
        """Path of the commit record below the output."""
        return record_name(self.shard, self.index)

    def to_json(self) -> str:
        """The commit record."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Fragment:
        """Reads a commit record back. Raises ValueError where it is none.

        Whoever may write to the output may write records, so a name in one is the name of a file and leads nowhere.
        """
        stored = json.loads(text)
        if not isinstance(stored, dict) or not _KEYS_ALWAYS <= stored.keys() <= _KEYS.keys():
            raise ValueError("it is no commit record, or one of another version")
        for name, value in stored.items():
            if not is_of_type(value, _KEYS[name]):
                raise ValueError(f"{name} is {value!r}, expected {_KEYS[name]}")
        fragment = Fragment(**stored)
        if fragment.shard < 0 or fragment.index < 0:
            raise ValueError(f"shard {fragment.shard}, fragment {fragment.index} are no numbers of any")
        fragment._expect_plain_names()
        return fragment

    def _expect_plain_names(self) -> None:
        published = {self.file, self.quarantine_file, self.carry_file} - {None}
        beside = {self.staged, self.quarantine_staged, self.carry_staged, self.snapshot} - {None}
        for name in sorted(str(name) for name in published | beside):
            if not _PLAIN.fullmatch(name) or not (name in beside or _PUBLISHED.fullmatch(name)):
                raise ValueError(f"{name!r} is no name that a run gives a file")

    def moves(self) -> tuple[tuple[str, str], ...]:
        """(from, to) below the output: what publishing renames, the quarantine first."""
        pairs = (
            (self.quarantine_staged, self.quarantine_file and f"{QUARANTINE}/{self.quarantine_file}"),
            (self.staged, self.file),
        )
        return tuple((f"{STAGED}/{staged}", final) for staged, final in pairs if staged and final)

    def carry_moves(self) -> tuple[tuple[str, str], ...]:
        """As `moves`, below the place that carry-over is written to."""
        return ((f"{STAGED}/{self.carry_staged}", self.carry_file),) if self.carry_staged and self.carry_file else ()


_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PUBLISHED = re.compile(r"part-.*\.parquet")
_KEYS = {field.name: str(field.type) for field in fields(Fragment)}  # each with its type, as it is spelt there
_KEYS_ALWAYS = {field.name for field in fields(Fragment) if field.default is MISSING}


def is_of_type(value: object, spelt: str) -> bool:
    """Whether a value of JSON has a type as an annotation spells it: `int`, `bool`, `str`, or one of them or None."""
    kind, _, nothing = spelt.partition(" | ")
    if value is None:
        return nothing == "None"
    return type(value) is {"int": int, "bool": bool, "str": str}[kind]


def record_name(shard: int, index: int) -> str:
    """Path of a commit record below the output."""
    return f"{COMMITS}/{shard:06d}-{index:05d}.json"


def fragment_name(run: str, shard: int, index: int) -> str:
    """Name of a score file: the same for every attempt that produces the same rows."""
    return f"part-{shard:06d}-{index:05d}-{run}.parquet"


def carry_name(shard: int, index: int) -> str:
    """Name of a file of carry-over: it has no run, so that the same night gives the same files again."""
    return f"part-{shard:06d}-{index:05d}.parquet"


def staged_name(name: str, *, fence: int, attempt: int, given_up: bool = False) -> str:
    """Name under STAGED or SNAPSHOTS of what shall be published as `name`: no two writers ever share one.

    `given_up`: by the driver, for a shard whose newest attempt it takes for dead; that may not be so dead.
    """
    return f"{name}.{fence}-{attempt}{'-given-up' if given_up else ''}"


@dataclass(frozen=True)
class Listing:
    """The names that lie in one place, an output or a carry-over."""

    published: Collection[str]  # files of rows, `_quarantine/...` among them
    staged: Collection[str] = ()  # below STAGED
    snapshots: Collection[str] = ()  # below SNAPSHOTS


@dataclass(frozen=True)
class Recovery:
    """What to do before a run goes on."""

    publish: tuple[Fragment, ...]  # committed, but not all of it has its last name yet
    remove: tuple[str, ...]  # files of the output that no record names
    remove_carry: tuple[str, ...]  # files of the carry-over that no record names
    done: frozenset[int]  # shards that need nothing more
    committed: frozenset[tuple[int, int]]  # (shard, fragment) that have a record


def recover(records: Iterable[Fragment], output: Listing, carry: Listing | None = None) -> Recovery:
    """Decides from the records alone; the listings only say what is left to rename or remove."""
    records = tuple(records)
    committed = frozenset((record.shard, record.index) for record in records)
    done = frozenset(record.shard for record in records if record.final)
    newest = {record.shard: record for record in sorted(records, key=lambda record: record.index)}
    snapshots = {record.snapshot for record in newest.values() if record.snapshot}
    of_output = _sweep(output, {record: record.moves() for record in records}, (committed, done), snapshots)
    of_carry = _sweep(carry or Listing(()), {record: record.carry_moves() for record in records}, (committed, done))
    open_yet = set(of_output.publish) | (set(of_carry.publish) if carry is not None else set())
    return Recovery(
        publish=tuple(record for record in records if record in open_yet),
        remove=of_output.remove,
        remove_carry=of_carry.remove,
        done=done,
        committed=committed,
    )


@dataclass(frozen=True)
class _Swept:
    publish: tuple[Fragment, ...]
    remove: tuple[str, ...]


def _sweep(
    listing: Listing,
    moves: dict[Fragment, tuple[tuple[str, str], ...]],
    known: tuple[Collection[tuple[int, int]], Collection[int]],
    snapshots: Collection[str] = (),
) -> _Swept:
    """What is to publish and to remove in one place; `known` are the fragments and the shards that have all records."""
    present = set(listing.published)
    named = {final for pairs in moves.values() for _, final in pairs}
    publish = tuple(record for record, pairs in moves.items() if any(final not in present for _, final in pairs))
    needed = {source.removeprefix(f"{STAGED}/") for record in publish for source, _ in moves[record]} | set(snapshots)
    strays = [name for name in sorted(present) if name not in named]
    leftovers = [f"{STAGED}/{name}" for name in sorted(listing.staged)]
    leftovers += [f"{SNAPSHOTS}/{name}" for name in sorted(listing.snapshots)]
    return _Swept(publish, (*strays, *(path for path in leftovers if _is_nobodys(path, needed, *known))))


_NUMBERS = re.compile(r"(\d{6,})-(\d{5,})[-.]")  # shard and fragment, in the name of a staged file or a snapshot


def _is_nobodys(
    path: str, needed: Collection[str], committed: Collection[tuple[int, int]], done: Collection[int]
) -> bool:
    """True where no record names a staged file or a snapshot, and none ever will."""
    name = path.rpartition("/")[2]
    found = _NUMBERS.search(name)
    open_yet = found and int(found[1]) not in done and (int(found[1]), int(found[2])) not in committed
    return name not in needed and not open_yet
