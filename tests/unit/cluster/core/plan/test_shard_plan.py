"""FileList, shards, and the plan on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan.file_list import FileList
from cluster.core.plan.inventory import Inventory, build_inventory
from cluster.core.plan.shard_plan import (
    Plan,
    choose_shard_rows,
    entity_keys,
    make_plan,
    refuse_interleaved,
    shard_groups,
    shards_of,
)
from cluster.run_errors import InputBroken, InputRefused, RunFailed
from cluster.runtime.commit.commit import PLAN
from cluster.runtime.input.key_scan import scan_file
from cluster.runtime.input.source_files import check_unchanged
from cluster.runtime.listing.file_listing import list_files
from cluster.runtime.plan import input_scan
from cluster.runtime.plan.input_scan import BATCH_FILES_MAX, BATCHES_MIN, file_batches, make_inventory
from cluster.runtime.plan.plan_files import HEAD_FILE, PLAN_FILE, Extents, read_bad, read_lost, read_plan, write_plan
from cluster.runtime.storage.local_store import LocalStore
from tests.inputs.series import make_series, settings_for, with_nulls, with_ties, write_cut


def plan_of(folder: Path, lengths: Sequence[int], *, shard_rows: int, file_rows: Sequence[int] | None = None) -> Plan:
    write_cut(folder, make_series(lengths), file_rows)
    return make_plan(make_inventory(settings_for(folder), map), shard_rows=shard_rows)


def lost_inventory(folder: Path, lost: Sequence[int]) -> Inventory:
    """Entities 0, 2 and 3 have two files of two rows, entity 1 has one; those of these numbers cannot be read."""
    names = ("k=0/part-0", "k=0/part-1", "k=2/part-0", "k=1/part-0", "k=2/part-1", "k=3/part-0", "k=3/part-1")
    for number, name in enumerate(names):
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number in lost:
            path.write_bytes(b"PAR1")
        else:
            pq.write_table(make_series([4]).slice(2 * int(name[-1]), 2), path)
    return make_inventory(settings_for(folder, entity=("k",)), map)


def touched(path: Path, seconds: int = 5) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + seconds * 10**9))


class TestListing:
    def names(self, *paths: Path | str) -> list[str]:
        return [Path(path).name for path in list_files(settings_for(*paths))]

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b.parquet", "a.parquet", "_SUCCESS", ".crc", "deep/er/c.parquet", "_tmp/d.parquet"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    def test_a_folder_is_listed_deeply_without_hidden_names(self, folder: Path) -> None:
        assert self.names(folder) == ["a.parquet", "b.parquet", "c.parquet"]

    def test_a_file_named_twice_is_read_once(self, folder: Path) -> None:
        assert self.names(folder / "a.parquet", folder / "*.parquet") == ["a.parquet", "b.parquet"]

    def test_a_glob_may_match_folders(self, folder: Path) -> None:
        assert self.names(folder / "d*") == ["c.parquet"]

    def test_a_name_with_glob_signs_is_a_name_where_it_exists(self, folder: Path) -> None:
        (folder / "x[1].parquet").touch()
        assert self.names(folder / "x[1].parquet") == ["x[1].parquet"]

    def test_a_linked_folder_is_followed_once(self, folder: Path) -> None:
        (folder / "loop").symlink_to(folder, target_is_directory=True)
        assert self.names(folder) == ["a.parquet", "b.parquet", "c.parquet"]

    @pytest.mark.parametrize("path", ["nowhere", "*.none", "_tmp/er", "s3://bucket/x"])
    def test_a_path_that_names_nothing_is_refused(self, folder: Path, path: str) -> None:
        with pytest.raises(InputRefused, match=r"input\.path"):
            self.names(path if "://" in path else folder / path)

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputRefused, match="no files in it"):
            self.names(tmp_path)


class TestShards:
    def test_shards_hold_neighbours_up_to_the_bound(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, [4, 4, 4, 4, 4], shard_rows=8)
        assert [shard.rows for shard in plan.shards] == [8, 8, 4]
        assert [entities.tolist() for entities in plan.shard_entities] == [[0, 1], [2, 3], [4]]

    def test_the_longest_entity_starts_first_and_ties_keep_file_order(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, [3, 3, 2, 6, 6], shard_rows=6)
        assert [entities.tolist() for entities in plan.shard_entities] == [[3], [4], [0, 1], [2]]
        assert [shard.index for shard in plan.shards] == [0, 1, 2, 3]
        assert [shard.longest_rows for shard in plan.shards] == [6, 6, 3, 2]

    def test_shards_of_like_length_are_a_band_in_file_order(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, [2, 2, 9, 3, 2, 5, 2, 2, 1, 8, 4, 4], shard_rows=8)
        assert [(shard.longest_rows, shard.band) for shard in plan.shards] == [
            (9, 0),
            (8, 1),
            (5, 2),
            (4, 2),
            (3, 3),
            (2, 3),
        ]
        assert [entities.tolist() for entities in plan.shard_entities[2:5]] == [[4, 5], [10, 11], [0, 1, 3]]

    def test_an_entity_longer_than_the_bound_is_alone_and_streamed(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, [2, 9, 2, 8, 2], shard_rows=8)
        assert [(shard.entities, shard.rows, shard.streamed) for shard in plan.shards] == [
            (1, 9, True),
            (1, 8, False),
            (2, 4, False),
            (1, 2, False),
        ]

    def test_the_bound_follows_the_input_within_limits(self) -> None:
        assert choose_shard_rows(1000, rows_per_file=10**6) == 32_768
        assert choose_shard_rows(80_000, rows_per_file=10**6) == 40_000, "two like ones"
        assert choose_shard_rows(1_600_000, rows_per_file=10**6) == 100_000, "sixteen of them"
        assert choose_shard_rows(16 * 262_144 + 1, rows_per_file=10**6) == 246_724, "one more, since they are full"
        assert choose_shard_rows(64 * 290_000, rows_per_file=10**6) == 290_000
        assert choose_shard_rows(10**12, rows_per_file=10**6) == 10**6
        assert choose_shard_rows(1000, rows_per_file=100) == 100

    def test_interleaved_input_is_refused_with_its_reason(self, tmp_path: Path) -> None:
        write_cut(tmp_path, make_series([4, 2]).take(pa.array([0, 1, 4, 2, 3, 5])))
        with pytest.raises(InputRefused, match=r"interleaved: entity entity='e0000' has rows 0 to 1 .*; sort it\."):
            refuse_interleaved(make_inventory(settings_for(tmp_path), map), "sort it")

    def test_nothing_left_to_score_is_a_plan_without_shards(self, tmp_path: Path) -> None:
        write_cut(tmp_path, make_series([4]))
        plan = make_plan(make_inventory(settings_for(tmp_path, since="2030-01-01"), map), shard_rows=8)
        assert (plan.shards, plan.head.rows_in, plan.head.rows_skipped) == ((), 4, 4)

    def test_an_input_without_rows_is_refused(self, tmp_path: Path) -> None:
        write_cut(tmp_path, make_series([]), [0, 0])
        with pytest.raises(InputRefused, match="no rows in 2 files"):
            make_inventory(settings_for(tmp_path), map)

    def test_ties_may_be_refused(self, tmp_path: Path) -> None:
        table = make_series([2])
        write_cut(tmp_path, table.take(pa.array([0, 0, 1])))
        assert make_inventory(settings_for(tmp_path), map).ties == 1
        with pytest.raises(InputRefused, match="breaks ties"):
            make_inventory(settings_for(tmp_path, ties="fail"), map)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


class TestStorage:
    def test_what_is_written_is_read(self, tmp_path: Path, store: LocalStore) -> None:
        plan = plan_of(tmp_path / "in", [3, 1, 7, 2, 5], shard_rows=6, file_rows=[5, 0, 13])
        write_plan(store, plan)
        assert read_plan(store) == plan.head
        for shard in plan.shards:
            extents = Extents(store).of(shard.index)
            assert extents.equals(plan.extents(shard.index))
            assert extents.column("row_count").to_numpy().sum() == shard.rows

    def test_a_row_group_is_a_shard_and_nothing_else_is_left(self, tmp_path: Path, store: LocalStore) -> None:
        plan = plan_of(tmp_path / "in", [3, 1, 7, 2, 5], shard_rows=6)
        write_plan(store, plan)
        assert sorted(path.name for path in (tmp_path / PLAN).iterdir()) == [
            "bad.parquet",
            "plan.json",
            "plan.parquet",
        ]
        assert pq.ParquetFile(tmp_path / PLAN_FILE).num_row_groups == len(plan.shards)

    def test_a_extent_says_where_its_rows_lie(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path, [3, 1, 7], shard_rows=4, file_rows=[5, 6])
        assert plan.extents(0).to_pydict() == {
            "entity": [0, 0],
            "file": [0, 1],
            "row_start": [4, 0],
            "row_count": [1, 6],
            "sorted": [True, True],
            "fault": [None, None],
            "key__entity": ["e0002", "e0002"],
        }

    def test_entity_columns_may_have_our_own_names(self, tmp_path: Path, store: LocalStore) -> None:
        table = make_series([2, 2]).append_column("file", pa.array(["x", "x", "y", None]))
        write_cut(tmp_path / "in", table)
        settings = settings_for(tmp_path / "in", entity=("entity", "file"))
        write_plan(store, make_plan(make_inventory(settings, map), shard_rows=8))
        keys = entity_keys(Extents(store).of(0))
        assert keys.to_pydict() == {"entity": ["e0000", "e0001"], "file": ["x", "y"]}
        assert entity_keys(read_bad(store)).to_pydict() == {"entity": ["e0001"], "file": [None]}

    def test_bad_rows_are_stored_beside_the_plan(self, tmp_path: Path, store: LocalStore) -> None:
        write_cut(tmp_path / "in", with_nulls(make_series([4]), "time", [1, 2]))
        plan = make_plan(make_inventory(settings_for(tmp_path / "in"), map), shard_rows=8)
        write_plan(store, plan)
        bad = read_bad(store)
        assert bad.column("row").to_pylist() == [1, 2]
        assert read_plan(store).rows_bad == 2

    def test_a_plan_with_no_shards_is_stored(self, tmp_path: Path, store: LocalStore) -> None:
        write_cut(tmp_path / "in", make_series([4]))
        plan = make_plan(make_inventory(settings_for(tmp_path / "in", until="2000-01-01"), map), shard_rows=8)
        write_plan(store, plan)
        assert read_plan(store) == plan.head

    def test_a_folder_without_a_whole_plan_is_refused(self, tmp_path: Path, store: LocalStore) -> None:
        with pytest.raises(RunFailed, match="no plan that can be read"):
            read_plan(store)
        store.write(HEAD_FILE, b'{"format": 1')
        with pytest.raises(RunFailed, match="no plan that can be read"):
            read_plan(store)

    def test_lost_files_and_the_faults_of_their_entities_are_written_and_read(
        self, tmp_path: Path, store: LocalStore
    ) -> None:
        plan = make_plan(lost_inventory(tmp_path / "in", [1, 3, 4]), shard_rows=3)
        write_plan(store, plan)
        assert read_plan(store) == plan.head
        assert (plan.head.files_lost, plan.head.entities_lost) == (3, 1)
        lost = read_lost(store)
        assert (lost.column_names, lost.column("key__k").to_pylist()) == (["key__k", "file", "reason"], [0, 1, 2])
        found = pa.concat_tables([Extents(store).of(shard.index) for shard in plan.shards])
        faults = dict(zip(found.column("key__k").to_pylist(), found.column("fault").to_pylist(), strict=True))
        assert {key: fault is None for key, fault in faults.items()} == {0: False, 2: False, 3: True}
        assert "k=2/part-1.parquet, which holds" in faults[2]

    def test_a_shard_that_is_not_there_is_refused(self, tmp_path: Path, store: LocalStore) -> None:
        plan = plan_of(tmp_path / "in", [3], shard_rows=6)
        write_plan(store, plan)
        with pytest.raises(RunFailed, match="Shard 1 cannot be read"):
            Extents(store).of(1)


class TestUnchanged:
    @pytest.fixture
    def plan(self, tmp_path: Path) -> Plan:
        return plan_of(tmp_path / "in", [4, 4], shard_rows=8, file_rows=[4, 4])

    def test_files_as_they_were_pass(self, plan: Plan) -> None:
        check_unchanged(plan.head, {})

    def test_a_copy_with_another_date_passes(self, plan: Plan) -> None:
        touched(Path(plan.head.files[1].path))
        check_unchanged(plan.head, {})

    def test_another_size_is_named(self, plan: Plan, store: LocalStore) -> None:
        write_plan(store, plan)
        path = Path(plan.head.files[1].path)
        pq.write_table(make_series([40]), path)
        with pytest.raises(InputBroken, match=r"part-001\.parquet changed"):
            check_unchanged(read_plan(store), {})
        assert read_plan(store) == plan.head

    def test_other_rows_in_the_same_size_are_named(self, plan: Plan) -> None:
        path = Path(plan.head.files[1].path)
        pq.write_table(make_series([2]), path)
        content = path.read_bytes()
        missing = plan.head.files[1].size_bytes - len(content)
        footer = len(content) - 8 - int(np.frombuffer(content[-8:-4], "<u4")[0])
        path.write_bytes(content[:footer] + bytes(missing) + content[footer:])  # what lies between pages is not read
        touched(path)
        with pytest.raises(InputBroken, match="had 4 rows and now has 2"):
            check_unchanged(plan.head, {})

    def test_of_many_files_that_changed_the_first_is_named(self, tmp_path: Path) -> None:
        plan = plan_of(tmp_path / "many", [40], shard_rows=40, file_rows=[1] * 40)
        for file in plan.head.files[7:]:
            Path(file.path).unlink()
        with pytest.raises(InputBroken, match=r"part-007\.parquet is gone"):
            check_unchanged(plan.head, {})

    def test_a_file_that_is_gone_is_named(self, plan: Plan) -> None:
        Path(plan.head.files[0].path).unlink()
        with pytest.raises(InputBroken, match=r"part-000\.parquet is gone"):
            check_unchanged(plan.head, {})


def test_the_plan_does_not_depend_on_the_order_of_paths(tmp_path: Path) -> None:
    paths = write_cut(tmp_path, make_series([5, 3, 9, 1]), [6, 6, 6])
    plans = [
        make_plan(make_inventory(settings_for(*order), map, FileList.of(map(str, order))), shard_rows=6)
        for order in (paths, paths[::-1])
    ]
    assert plans[0].head == plans[1].head
    assert all(plans[0].extents(shard.index).equals(plans[1].extents(shard.index)) for shard in plans[0].shards)


def test_the_mapper_is_called_like_map(tmp_path: Path) -> None:
    write_cut(tmp_path, make_series([5]), [2, 3])
    seen: list[Any] = []

    def mapper(scan: Any, batches: Sequence[Sequence[str]]) -> list[Any]:
        seen.extend(path for batch in batches for path in batch)
        return [scan(batch) for batch in batches]

    assert make_inventory(settings_for(tmp_path), mapper).entity_rows.tolist() == [5]
    assert [Path(path).name for path in seen] == ["part-000.parquet", "part-001.parquet"]


@pytest.mark.parametrize("count", [1, 2, 255, 256, 511, 512, 100_000])
def test_files_are_cut_into_batches_of_neighbours(count: int) -> None:
    files = [f"{number:06d}" for number in range(count)]
    cut = file_batches(files)
    assert [path for batch in cut for path in batch] == files
    assert len(cut) >= min(count, BATCHES_MIN)
    assert max(map(len, cut)) <= BATCH_FILES_MAX
    assert len(cut) <= 2 * max(BATCHES_MIN, count // BATCH_FILES_MAX)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_plan_does_not_depend_on_how_files_were_batched(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = with_nulls(with_ties(make_series([5, 3, 9, 1, 12]), [7, 12]), "entity", [4, 21])
    write_cut(tmp_path, table, [6, 0, 6, 1, 8, 2, 7])
    settings = settings_for(tmp_path)
    alone = build_inventory([scan_file(path, settings) for path in list_files(settings)])
    monkeypatch.setattr(input_scan, "BATCHES_MIN", 1)
    monkeypatch.setattr(input_scan, "BATCH_FILES_MAX", size)
    together = make_inventory(settings, map)
    assert alone.bad.num_rows == 2
    one, other = make_plan(alone, shard_rows=8), make_plan(together, shard_rows=8)
    assert one.head == other.head
    assert alone.bad.equals(together.bad)
    assert all(one.extents(shard.index).equals(other.extents(shard.index)) for shard in one.shards)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_lost_files_are_found_however_files_are_batched(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_scan, "BATCHES_MIN", 1)
    monkeypatch.setattr(input_scan, "BATCH_FILES_MAX", size)
    inventory = lost_inventory(tmp_path, [0, 1, 3, 4])
    lost = inventory.lost
    assert lost is not None
    assert [Path(file.path).parent.name for file in lost.files] == ["k=0", "k=0", "k=1", "k=2"]
    assert lost.entity.tolist() == [-1, -1, -1, 0]
    assert lost.gone.tolist() == [0, 2]
    reasons = lost.reasons(np.array([1, 0])).to_pylist()
    assert (reasons[0], "k=2" in reasons[1]) == (None, True)
    assert inventory.rows_in == 6


def test_where_no_file_is_lost_nobody_has_a_fault(tmp_path: Path) -> None:
    inventory = lost_inventory(tmp_path, [])
    assert inventory.lost is None
    assert make_plan(inventory, shard_rows=100).extents(0).column("fault").null_count == 7


def test_files_of_one_batch_that_disagree_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_scan, "BATCHES_MIN", 1)
    table = make_series([3])
    for number, kind in enumerate((pa.int32(), pa.string())):
        column = pa.array([1, 2, 3]).cast(kind)
        pq.write_table(table.set_column(0, "entity", column), tmp_path / f"{number}.parquet")
    with pytest.raises(InputRefused, match=r"is string in .*1\.parquet but int32 in .*0\.parquet"):
        make_inventory(settings_for(tmp_path), map)


def test_the_last_shards_of_a_large_input_are_cut_finer() -> None:
    lengths = np.random.default_rng(0).integers(100, 2_000, 50_000)
    groups = shard_groups(lengths, 500_000)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert all((np.diff(group) == 1).all() for group in groups), "neighbours in file order"
    rows = np.array([lengths[group].sum() for group in groups])
    kinds = np.digitize(rows, [1.5 * 65_536, 1.5 * 125_000])
    shares = np.bincount(kinds, rows) / rows.sum()
    assert shares == pytest.approx([0.1, 0.15, 0.75], abs=0.05), "few rows in small shards"
    assert rows[kinds == 1].min() > 100_000, "no remainders"
    shards = shards_of(groups, lengths, 500_000)
    assert [shard.band for shard in shards] == sorted(shard.band for shard in shards)
    for band in range(shards[-1].band + 1):
        own = [shard for shard in shards if shard.band == band]
        assert len({int(kinds[shard.index]) for shard in own}) == 1, "shards of like size"
        assert max(shard.longest_rows for shard in own) < 2 * min(shard.longest_rows for shard in own)
        first = [int(groups[shard.index][0]) for shard in own]
        assert first == sorted(first), "in file order"
