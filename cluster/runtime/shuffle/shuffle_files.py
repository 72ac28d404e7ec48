"""The files of the pre-pass, below `_slotcar/shuffle` of the output: what they are called, and what they tell.

Every name begins with a digest of all that decides the file's rows, so that what an earlier session has finished is
known by its name, and nothing of other settings or of another input is ever taken for it. A file is whole or not there.

- `DIGEST-piece-00012.parquet`: one piece of the input, a row group for each bucket and each stretch of memory; the
  footer names the bucket of each row group and counts the skipped rows. `DIGEST-bad-00012.parquet`, written before it,
  has the piece's rows without an entity or a time.
- `DIGEST-run-00003-0007.parquet`: a sorted part of a bucket that is larger than memory, until the bucket is whole.
- `DIGEST-bucket-00003.parquet`: a bucket, by entity and time. When the run is done its columns are cut down to the
  keys and each row's place in the input, under the same name: what an audit needs.
- `DIGEST-counts.json`: what the footers of the pieces count, where these are removed while the buckets are still read
  by session after session, as those of a training are. It is there when all buckets are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.core.own_columns import apart
from cluster.core.plan.inventory import SourceFile
from cluster.core.plan.partitions import Partitions
from cluster.core.plan.shuffle_plan import ORIGIN_FILE, ORIGIN_ROW, Cuts, cut_input, row_bytes
from cluster.core.settings import InputSettings
from cluster.run_errors import RunFailed, StoreFault, first_line
from cluster.runtime.commit.commit import SHUFFLE
from cluster.runtime.storage.open_store import StoreSpec, open_store
from cluster.runtime.storage.parquet_writer import parquet_writer
from cluster.runtime.storage.store import Store

GROUP_ROWS = 131_072  # shards read stretches of a bucket
_FORMAT = 1
_META = b"slotcar"


@dataclass(frozen=True)
class Shuffle:
    """One pre-pass: all that its tasks must know."""

    place: StoreSpec
    settings: InputSettings
    sources: tuple[SourceFile, ...]  # the input's files, sorted by path
    columns: pa.Schema  # the columns that the run needs, opened
    partitions: Partitions  # what stands beside the sources
    group_rows: int = GROUP_ROWS  # of a bucket's row groups
    differ: bool = False  # not all files have these types: each one's columns are brought to them

    @cached_property
    def cuts(self) -> Cuts:
        """The pieces and the number of buckets."""
        return cut_input(self.sources, row_bytes(self.schema))

    @cached_property
    def schema(self) -> pa.Schema:
        """Of pieces and buckets: the needed columns, then the row's place."""
        file, row = (apart(name, self.columns.names) for name in (ORIGIN_FILE, ORIGIN_ROW))
        return self.columns.append(pa.field(file, pa.int32())).append(pa.field(row, pa.int64()))

    @cached_property
    def digest(self) -> str:
        """Of all that decides the rows of every file."""
        settings = {name: value for name, value in asdict(self.settings).items() if name in _DECIDING}
        settings |= {} if self.settings.page_checksums else {"page_checksums": False}  # names of before stay
        told = [_FORMAT, settings, str(self.schema.remove_metadata()), [asdict(file) for file in self.sources]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]

    def store(self) -> Store:
        """The output's store, opened by whoever asks."""
        return open_store(self.place)

    def piece(self, index: int) -> str:
        """The name of a piece."""
        return f"{SHUFFLE}/{self.digest}-piece-{index:05d}.parquet"

    def bad(self, index: int) -> str:
        """The name of the bad rows of a piece."""
        return f"{SHUFFLE}/{self.digest}-bad-{index:05d}.parquet"

    def bucket(self, index: int) -> str:
        """The name of a bucket."""
        return f"{SHUFFLE}/{self.digest}-bucket-{index:05d}.parquet"

    @property
    def counts(self) -> str:
        """The name of what the pieces count."""
        return f"{SHUFFLE}/{self.digest}-counts.json"

    def run(self, bucket: int, index: int) -> str:
        """The name of a sorted run of a bucket."""
        return f"{SHUFFLE}/{self.digest}-run-{bucket:05d}-{index:04d}.parquet"


_DECIDING = {"entity", "time", "features", "since", "until", "keep", "target"}


@dataclass(frozen=True)
class PieceMeta:
    """What a piece's footer tells."""

    buckets: tuple[int, ...]  # (row group,) the bucket of each
    rows: tuple[int, ...]  # (row group,)
    skipped: int
    bad: int

    def of_bucket(self, bucket: int) -> list[int]:
        """The row groups of a bucket, in the input's order."""
        return [int(group) for group in np.flatnonzero(np.array(self.buckets, np.int64) == bucket)]

    def rows_of(self, bucket: int) -> int:
        """Rows of a bucket in this piece."""
        return sum(self.rows[group] for group in self.of_bucket(bucket))


@contextmanager
def writing(store: Store, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """The writer of a temporary file; quick to write and to read, small enough."""
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    with (
        store.open_output(name) as file,
        parquet_writer(
            file, schema, compression="lz4", use_dictionary=texts, write_statistics=False, version="2.6"
        ) as writer,
    ):
        yield writer


def write_meta(writer: pq.ParquetWriter, meta: PieceMeta) -> None:
    """Puts it into the footer."""
    told = json.dumps(asdict(meta)).encode()
    writer.add_key_value_metadata({_META: told})  # type: ignore[dict-item]  # why: it takes bytes too


@contextmanager
def open_shuffle_file(store: Store, name: str) -> Iterator[pq.ParquetFile]:
    """A temporary file. Raises RunFailed where it cannot be read."""
    try:
        with store.open_input(name) as file, pq.ParquetFile(file, pre_buffer=False) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise unreadable(store, name, error) from error


def unreadable(store: Store, name: str, error: BaseException) -> RunFailed:
    """What is said of a temporary file that cannot be read."""
    return RunFailed(
        f"{store.path(name)}, a temporary file of this run, cannot be read ({first_line(error)}): remove the "
        f"folder {store.path(SHUFFLE)} and run the same command again."
    )


def read_meta(parquet: pq.ParquetFile) -> PieceMeta:
    """What an opened piece tells."""
    kept = parquet.metadata.metadata
    assert kept is not None, "a piece without its meta"
    told = json.loads(kept[_META])
    return PieceMeta(tuple(told["buckets"]), tuple(told["rows"]), told["skipped"], told["bad"])


@dataclass(frozen=True)
class Counts:
    """What the pieces of the whole input count."""

    skipped: int  # rows
    bad: tuple[int, ...]  # pieces that have bad rows


def read_counts(shuffle: Shuffle, store: Store) -> Counts:
    """Of all pieces, or what was written down of them."""
    kept = store.find(shuffle.counts)
    if kept is not None:
        told = json.loads(kept)
        return Counts(told["skipped"], tuple(told["bad"]))
    skipped, bad = 0, []
    for index in range(len(shuffle.cuts.pieces)):
        with open_shuffle_file(store, shuffle.piece(index)) as parquet:
            meta = read_meta(parquet)
        skipped += meta.skipped
        bad += [index] if meta.bad else []
    return Counts(skipped, tuple(bad))


def write_counts(shuffle: Shuffle, store: Store) -> None:
    """Writes down what the pieces count; every bucket must be there. Raises StoreFault."""
    store.write(shuffle.counts, json.dumps(asdict(read_counts(shuffle, store))).encode())


def is_finished(shuffle: Shuffle, store: Store) -> bool:
    """True where every bucket is there, and nothing of the pieces is needed any more."""
    names = {f"{SHUFFLE}/{name}" for name in store.list(SHUFFLE)}
    return names.issuperset([shuffle.counts, *map(shuffle.bucket, range(shuffle.cuts.buckets))])


def remove_files(store: Store, keep: Sequence[str] = ()) -> None:
    """Removes the pre-pass's files but those whose names begin with one of `keep`; what is gone already is fine."""
    for name in store.list(SHUFFLE):
        if not name.startswith(tuple(keep)):
            try:
                store.remove(f"{SHUFFLE}/{name}")
            except StoreFault:
                if store.exists(f"{SHUFFLE}/{name}"):
                    raise
