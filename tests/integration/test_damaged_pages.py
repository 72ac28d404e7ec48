"""Pages that are not what they should be: torn, shorter or longer than the footer says, or against their own checksum.

Whatever is wrong with a page of a feature or of a column that is kept, the rows of its row group are lost, however the
rows lie and wherever they are read: their entities are scored up to there and are in quarantine from there on. The base
is five entities of 6, 5, 4, 3 and 2 rows, in two files of 8 and 12 rows; row group 1 of the second file has the rows 14
to 19.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.plan import shard_plan
from cluster.core.settings import StepSettings
from cluster.run_errors import InputBroken, InputDamaged, RunFailed
from cluster.runtime.audit.audit import audit
from cluster.runtime.audit.rescore import find_truth, rescore
from cluster.runtime.plan.plan_files import read_plan
from cluster.runtime.rows.damaged_rows import TolerantReader
from cluster.runtime.rows.row_origins import InputFiles
from cluster.runtime.run import run as run_module
from cluster.runtime.run.run import score
from cluster.runtime.shuffle import bucket_split
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.storage.open_store import StoreSpec
from tests.harness.inprocess import Job, in_process, run, tidy
from tests.harness.truth import expected
from tests.inputs.false_counts import flip, say, shorten, understate, write_plain
from tests.inputs.series import make_series
from tests.integration.test_lost_files import alone
from tests.integration.test_train import lay_out, table_with_targets, trained
from tests.models.keras_models import FIT, contract_of, save

LENGTHS = (6, 5, 4, 3, 2)
ROWS, LOST_FROM = 20, 14
MODEL = save(FIT["lstm"]())
CONTRACT = contract_of(MODEL, "lstm")
FEATURES = (("rows", ("f0", "f1", "f2")),)
REASON = "the row cannot be read: its file is damaged there"
LOST = [("part-1.parquet", 6, "e0002", 1), ("part-1.parquet", 7, "e0003", 3), ("part-1.parquet", 10, "e0004", 2)]

Spoil = Callable[[Path, str], None]


def torn(path: Path, column: str) -> None:
    """All bytes of the column are wrong."""
    footer = pq.read_metadata(path)
    chunk = footer.row_group(1).column(footer.schema.names.index(column))
    content = bytearray(path.read_bytes())
    begin = chunk.data_page_offset
    content[begin : begin + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)


def short(path: Path, column: str) -> None:
    """It holds four values of six."""
    shorten(path, column, 4, group=1)


def empty(path: Path, column: str) -> None:
    """It holds none."""
    shorten(path, column, 0, group=1)


def flipped(path: Path, column: str) -> None:
    """A bit is not as its page's checksum says."""
    flip(path, column, group=1)


SPOILS = (torn, short, empty, flipped)
every_spoil = pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
both_layouts = pytest.mark.parametrize("layout", ["auto", "shuffle"])


def base() -> Any:
    return make_series(LENGTHS).append_column("kept", pa.array(range(ROWS), pa.int64()))


def lay(folder: Path, spoil: Spoil, column: str = "f0", table: Any = None) -> None:
    """The base in two files, with row groups of 8 and 6 rows, the last one spoilt."""
    table = base() if table is None else table
    write_plain(folder / "part-0.parquet", table.slice(0, 8), 8)
    path = write_plain(folder / "part-1.parquet", table.slice(8), 6, write_page_checksum=True)
    spoil(path, column)


def job(folder: Path, name: str = "out", **settings: Any) -> Job:
    step, asked = StepSettings(4, 4), {"keep": ("kept",), **settings}
    return Job(MODEL, folder / "in", folder / name, FEATURES, step=step, input=asked, quarantine_limit=1.0)


def counts(record: dict[str, Any]) -> list[int]:
    found = [record[f"rows_{name}"] for name in ("in", "scored", "quarantined", "skipped")]
    assert found[0] == sum(found[1:]), "every row is counted once"
    return found


def quarantined(output: Path) -> list[tuple[Any, ...]]:
    """(file, row, entity, rows) of all lines, whose reason is the damage."""
    lines = [
        line
        for path in (output / "_quarantine").glob("*.parquet")
        for line in pq.read_table(path, partitioning=None).to_pylist()
    ]
    assert {line["reason"] for line in lines} == {REASON}
    return sorted((Path(line["file"]).name, line["row"], line["entity"], line["rows"]) for line in lines)


def failures(output: Path) -> list[Any]:
    return [check for check in audit(LocalStore(str(output))).checks if check.failures]


def check_truth(output: Path, rows: list[int]) -> None:
    """The scores are those of Keras, on each entity's rows alone, and nothing is there twice."""
    found, whole = tidy(output), base()
    assert found.column("kept").to_pylist() == rows
    truth = expected(MODEL, whole, CONTRACT)[rows]
    scores = np.stack([found.column(name).to_numpy() for name in CONTRACT.score_names], axis=1)
    np.testing.assert_allclose(scores, truth, atol=CONTRACT.tolerance, rtol=0)


@every_spoil
@both_layouts
@pytest.mark.parametrize("column", ["f0", "f2", "kept"])
def test_entities_are_scored_up_to_the_row_group(tmp_path: Path, spoil: Spoil, layout: str, column: str) -> None:
    lay(tmp_path / "in", spoil, column)
    asked = job(tmp_path, layout=layout)
    assert counts(run(asked)) == [ROWS, LOST_FROM, ROWS - LOST_FROM, 0]
    assert quarantined(asked.output) == LOST
    check_truth(asked.output, list(range(LOST_FROM)))
    assert failures(asked.output) == []
    store = LocalStore(str(asked.output))
    head = read_plan(store)
    again = TolerantReader(InputFiles.of(head, store, {}), ("entity", column), asked.request().input, 0)
    rows = [again.rows(file, 0, head.files[file].rows) for file in range(len(head.files))]
    assert sum(0 if part.lost is None else int(part.lost.sum()) for part in rows) == ROWS - LOST_FROM


@every_spoil
def test_a_row_group_of_which_rows_were_passed_on_is_lost_as_a_whole(
    tmp_path: Path, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_split, "HELD_BYTES", 0)
    monkeypatch.setattr(bucket_split, "BATCH_ROWS", 2)
    lay(tmp_path / "in", spoil)
    asked = job(tmp_path, layout="shuffle")
    assert counts(run(asked)) == [ROWS, LOST_FROM, ROWS - LOST_FROM, 0]
    assert quarantined(asked.output) == LOST
    check_truth(asked.output, list(range(LOST_FROM)))
    assert failures(asked.output) == []


@every_spoil
def test_a_long_entity_is_scored_up_to_the_row_group(
    tmp_path: Path, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_plan, "SHARD_ROWS_MIN", 4)
    monkeypatch.setattr(run_module, "BLOCK_CHUNKS", 1)
    path = write_plain(tmp_path / "in" / "part-1.parquet", base(), 3, write_page_checksum=True)
    if spoil is short:
        shorten(path, "f0", 1, group=1)  # rows 3 to 5 of the first entity
    else:
        spoil(path, "f0")
    asked = job(tmp_path)
    assert counts(run(asked)) == [ROWS, ROWS - 3, 3, 0]
    check_truth(asked.output, [*range(3), *range(6, ROWS)])


@every_spoil
@both_layouts
def test_the_run_ends_where_no_entity_may_be_bad(tmp_path: Path, spoil: Spoil, layout: str) -> None:
    lay(tmp_path / "in", spoil)
    with pytest.raises(RunFailed, match=r"part-1\.parquet"):
        run(job(tmp_path, layout=layout, bad_entity="fail"))


@every_spoil
@both_layouts
def test_a_night_goes_on_from_the_last_row_before_it(tmp_path: Path, spoil: Spoil, layout: str) -> None:
    lay(tmp_path / "in", spoil)
    first = job(tmp_path, layout=layout)
    score(_with_state(first, tmp_path, write="one").request(), open_cluster=in_process)
    state = {
        line["entity"]: line
        for path in (tmp_path / "one").glob("*.parquet")
        for line in pq.read_table(path).to_pylist()
    }
    seen = {entity: (line["rows_seen"], line["broken_since"] is not None) for entity, line in state.items()}
    assert seen == {
        "e0000": (6, False),
        "e0001": (5, False),
        "e0002": (3, True),
        "e0003": (0, True),
        "e0004": (0, True),
    }
    write_plain(tmp_path / "mended" / "part.parquet", base())
    again = _with_state(job(tmp_path, "mended-out"), tmp_path, read="one", path=tmp_path / "mended")
    assert counts(score(again.request(), open_cluster=in_process)) == [ROWS, 6, 14, 0]  # late ones, and those mended
    check_truth(again.output, list(range(LOST_FROM, ROWS)))


def _with_state(asked: Job, folder: Path, path: Path | None = None, **state: str) -> Job:
    places = {name: folder / where for name, where in state.items()}
    return Job(**{**vars(asked), "state": places, "path": path or asked.path})


@every_spoil
@both_layouts
def test_entities_beside_it_can_be_scored_again(tmp_path: Path, spoil: Spoil, layout: str) -> None:
    lay(tmp_path / "in", spoil)
    (tmp_path / "m.keras").write_bytes(MODEL)
    asked = job(tmp_path, layout=layout)
    request = asked.request()
    score(type(request)(**{**vars(request), "model_path": str(tmp_path / "m.keras")}), open_cluster=in_process)
    store = LocalStore(str(asked.output))
    found = rescore(audit(store), store, find_truth(store, StoreSpec(store.root)), 5, alone)
    assert (found.check.failures, len(found.entities)) == (0, 3)  # two of the five have no score


@every_spoil
def test_a_training_leaves_the_rows_out(tmp_path: Path, spoil: Spoil) -> None:
    table = table_with_targets(LENGTHS)
    path = lay_out(tmp_path, table)
    for old in (tmp_path / "in").iterdir():
        old.unlink()
    lay(tmp_path / "in", spoil, table=table.drop_columns(["nested"]))
    report = trained(path)
    assert (report.rows_in, report.rows_trained_on, report.rows_quarantined) == (ROWS, LOST_FROM, ROWS - LOST_FROM)


@pytest.mark.parametrize("column", ["entity", "time"])
@every_spoil
@both_layouts
def test_keys_that_cannot_be_read_end_the_run_with_the_files_name(
    tmp_path: Path, spoil: Spoil, layout: str, column: str
) -> None:
    lay(tmp_path / "in", spoil, column)
    with pytest.raises(InputDamaged, match=r"part-1\.parquet (is damaged|holds [04] rows in row group 1)"):
        run(job(tmp_path, layout=layout))


@both_layouts
def test_checksums_that_nobody_wants_are_not_looked_at(tmp_path: Path, layout: str) -> None:
    lay(tmp_path / "in", flipped)
    assert counts(run(job(tmp_path, layout=layout, page_checksums=False))) == [ROWS, ROWS, 0, 0]


# ---- footers that say other numbers


FOLDERS = ("entity=x/time=1", "entity=7/time=1")
every_folder = pytest.mark.parametrize("folder", FOLDERS)


def in_folders(folder: Path) -> tuple[Path, Path]:
    """Two files whose keys stand in the names of their folders: the first one named so, and another one."""
    values = {f"f{i}": pa.array(np.arange(70, dtype=np.float32)) for i in range(3)}
    first = write_plain(folder / "part.parquet", pa.table(values))
    other = folder.parents[1] / "entity=other" / folder.name / "part.parquet"
    return first, write_plain(other, pa.table(values).slice(0, 30))


@every_folder
def test_rows_that_only_the_footers_have_are_in_quarantine(tmp_path: Path, folder: str) -> None:
    path, _ = in_folders(tmp_path / "in" / folder)
    say(path, 100, of_columns=True)
    asked = job(tmp_path, keep=())
    assert counts(run(asked)) == [130, 30, 100, 0]
    assert quarantined(asked.output) == [("part.parquet", 0, folder[7:].partition("/")[0], 100)]
    assert failures(asked.output) == []


@every_folder
@pytest.mark.parametrize("says", [50, 100])
def test_a_file_whose_footer_contradicts_itself_is_lost_with_its_entity(tmp_path: Path, folder: str, says: int) -> None:
    path, _ = in_folders(tmp_path / "in" / folder)
    say(path, says)
    asked = job(tmp_path, keep=())
    record = run(asked)
    assert (counts(record), record["files_lost"], record["entities_quarantined"]) == ([30, 30, 0, 0], 1, 1)
    assert failures(asked.output) == []


@pytest.mark.parametrize("of_groups", [False, True])
@pytest.mark.parametrize("says", [50, 100])
@both_layouts
def test_a_file_whose_footer_contradicts_itself_ends_the_run_where_its_entities_are_not_known(
    tmp_path: Path, says: int, of_groups: bool, layout: str
) -> None:
    path = write_plain(tmp_path / "in" / "part.parquet", make_series([70]))
    say(path, says, of_file=not of_groups, of_groups=of_groups)
    with pytest.raises(InputBroken, match=rf"part\.parquet says that .* holds {'70' if of_groups else says} rows, but"):
        run(job(tmp_path, keep=(), layout=layout))


@both_layouts
def test_rows_behind_those_that_a_footer_knows_are_not_taken_for_the_next_row_groups(
    tmp_path: Path, layout: str
) -> None:
    whole = make_series([100, 70]).append_column("kept", pa.array(range(170), pa.int64()))
    path = write_plain(tmp_path / "in" / "part.parquet", whole, 100)
    understate(path, 100, 80)
    with pq.ParquetFile(path) as parquet:  # what everybody reads
        rows = [row for group in (0, 1) for row in parquet.read_row_group(group).column("kept").to_pylist()]
    assert rows == [*range(80), *range(100, 170)]
    asked = job(tmp_path, layout=layout)
    assert counts(run(asked)) == [150, 150, 0, 0]
    found = tidy(asked.output)
    assert found.column("kept").to_pylist() == rows
    truth = expected(MODEL, whole.take(pa.array(rows)), CONTRACT)
    np.testing.assert_allclose(found.column(CONTRACT.score_names[0]).to_numpy(), truth[:, 0], atol=CONTRACT.tolerance)
    assert failures(asked.output) == []
