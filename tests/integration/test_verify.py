"""`slotcar verify`: a good run holds, and every damage that is planted in an output is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.settings import StepSettings
from cluster.run_errors import AuditFailed, OutputRefused, RunFailed
from cluster.runtime.audit.rescore_actor import AuditActor, AuditSpec, Rescore, ray_rescore
from cluster.runtime.run.run import score
from jobs.commands.verify import Verification, expect_holds
from jobs.commands.verify import run as verify
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused
from tests.harness.inprocess import Job, in_process
from tests.harness.truth import TOLERANCE, columns_for
from tests.inputs.series import make_series, with_nulls, write_cut
from tests.models.keras_models import FIT, save

LENGTHS = (30, 1, 200, 77, 2500, 2, 64, 300)
SETTINGS = {"until": "2026-01-04", "keep": ("unused",)}


class Case:
    """A finished run: its model, its input and its output, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source, self.output, self.model = folder, folder / "in", folder / "out", folder / "m.keras"

    def fragments(self) -> list[Path]:
        return sorted(self.output.glob("*.parquet"))

    def long_ones(self) -> list[Path]:
        """Fragments with more than a few rows."""
        return [path for path in self.fragments() if pq.read_metadata(path).num_rows > 100]

    def record_of(self, fragment: Path) -> Path:
        return self.output / "_slotcar/commits" / f"{fragment.name[5:17]}.json"

    def verify(self, count: int = 0, spoil: Callable[[Any], Any] = lambda scores: scores) -> Verification:
        return verify(self.output, count, lambda spec, model: alone(spec, model, spoil))


@contextmanager
def alone(spec: AuditSpec, model: bytes, spoil: Callable[[Any], Any]) -> Iterator[Rescore]:
    """The audit's actor in this process."""
    actor = AuditActor(spec, model)
    yield lambda shard, entities: [spoil(scores) for scores in actor.rescore(shard, entities)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Eight entities in four files; two with a bad row, rows without a key or a time, and rows that are skipped."""
    case = Case(tmp_path_factory.mktemp("verify"))
    table = make_series(LENGTHS, extra=True)
    table = with_nulls(with_nulls(table, "f1", [40, 3000]), "entity", [300])
    table = with_nulls(table, "time", [310])
    write_cut(case.source, table, [100, 1500, 0, table.num_rows - 1600], [700, 60])
    case.model.write_bytes(save(FIT["lstm"]()))
    score_into(case)
    return case


def score_into(case: Case, checkpoint_s: float = 60.0, **changes: Any) -> None:
    contract = read_contract(case.model.read_bytes(), name="the model")
    fields: dict[str, Any] = {"input": SETTINGS, "step": StepSettings(4, 2), "write": {"rows_per_file": 700}, **changes}
    job = Job(case.model.read_bytes(), case.source, case.output, columns_for(contract), quarantine_limit=1.0, **fields)
    request = job.request()
    cluster = replace(request.cluster, checkpoint_s=checkpoint_s)
    score(replace(request, model_path=str(case.model), cluster=cluster), open_cluster=in_process)


@pytest.fixture
def case(made: Case, tmp_path: Path) -> Case:
    """A copy of the finished run that a test may damage; its input and model are shared."""
    copy = Case(tmp_path)
    copy.source, copy.model = made.source, made.model
    shutil.copytree(made.output, copy.output)
    return copy


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def failed(found: Verification) -> dict[str, str]:
    """Check -> its first counterexample, of those that fail; the sentence names the first of them."""
    failures = {check.name: str(check.first) for check in found.checks if not check.holds}
    if failures:
        with pytest.raises(AuditFailed) as raised:
            expect_holds(found)
        assert next(iter(failures.values())) in str(raised.value)
        assert raised.value.exit_code == 1
    return failures


def test_a_good_run_holds_in_every_check(case: Case) -> None:
    found = case.verify()
    assert failed(found) == {}
    counted = {check.name: check.counted for check in found.checks}
    run = json.loads((case.output / "_slotcar/run.json").read_text())
    assert run["rows_skipped"] > 0
    assert run["rows_quarantined"] > 2
    assert counted["times"] == run["rows_scored"]
    assert counted["exactly once"] == run["rows_in"]
    assert counted["fragments"] == len(case.fragments()) > 3
    json.dumps(found.as_dict())
    assert found.holds


def test_verify_writes_nothing(case: Case) -> None:
    before = {path: path.stat().st_mtime_ns for path in case.folder.rglob("*")}
    case.verify()
    assert {path: path.stat().st_mtime_ns for path in case.folder.rglob("*")} == before


def test_a_deleted_fragment_is_named(case: Case) -> None:
    path = case.fragments()[1]
    path.unlink()
    found = failed(case.verify())
    assert path.name in found["fragments"]
    assert "rows in the input" in found["exactly once"]


def test_a_torn_fragment_is_named(case: Case) -> None:
    path = case.fragments()[0]
    path.write_bytes(path.read_bytes()[:-100])
    assert path.name in failed(case.verify())["fragments"]


def test_a_flipped_score_is_named(case: Case) -> None:
    path = case.long_ones()[0]

    def flip(table: Any) -> Any:
        scores = table.column("score").to_numpy().copy()
        scores.view(np.int32)[17] ^= 1
        return table.set_column(table.schema.get_field_index("score"), "score", pa.array(scores))

    rewrite(path, flip)
    found = failed(case.verify())
    assert list(found) == ["fragments"]
    assert path.name in found["fragments"]
    assert "checksum" in found["fragments"]


def test_a_swapped_pair_of_rows_is_named(case: Case) -> None:
    path = case.long_ones()[0]
    rewrite(path, lambda table: table.take([1, 0, *range(2, table.num_rows)]))
    found = failed(case.verify())
    assert {"fragments", "times", "order"} <= set(found)
    assert f"{path.name}, row 1" in found["order"]
    assert f"{path.name}, row 0" in found["times"]


def test_a_lost_row_is_named(case: Case) -> None:
    path = case.long_ones()[0]
    rewrite(path, lambda table: table.slice(0, table.num_rows - 1))
    found = failed(case.verify())
    assert path.name in found["fragments"]
    assert "in scores" in found["exactly once"]


def test_a_row_lost_with_its_record_changed_too_is_found_in_the_input(case: Case) -> None:
    """The record tells the file as it is: only the input knows better."""
    path = case.long_ones()[0]
    rewrite(path, lambda table: table.slice(0, table.num_rows - 1))
    found = failed(case.verify())
    told = dict(part.split(" ", 1) for part in found["fragments"].split(": ", 1)[1].split("; ") if "checksum" in part)
    rows = pq.read_metadata(path).num_rows
    edit(case.record_of(path), rows=rows, checksum=told["checksum"].split(",")[0])
    found = failed(case.verify())
    assert "in scores" in found["exactly once"]
    assert "rows_scored" in found["totals"] or "the input has" in found["totals"]


def test_an_extra_parquet_file_is_named(case: Case) -> None:
    shutil.copy(case.fragments()[0], case.output / "extra.parquet")
    assert failed(case.verify()) == {"files": "extra.parquet lies in the output, but no record names it"}


def test_a_fragment_that_is_there_twice_is_named(case: Case) -> None:
    """With a record of its own, as a commit without a number would have left it."""
    path = case.fragments()[-1]
    shard, index, run = path.name[5:].removesuffix(".parquet").split("-")
    again = path.with_name(f"part-{shard}-{int(index) + 1:05d}-{run}.parquet")
    shutil.copy(path, again)
    record = json.loads(case.record_of(path).read_text())
    record |= {"index": int(index) + 1, "file": again.name, "quarantine_file": None, "quarantine_staged": None}
    case.record_of(again).write_text(json.dumps(record | {"rows_quarantined": 0, "entities_quarantined": 0}))
    found = failed(case.verify())
    assert "records follow it" in found["records"]
    assert "in scores" in found["exactly once"]


def test_a_record_that_names_another_s_file_is_found(case: Case) -> None:
    first, second = case.fragments()[:2]
    edit(case.record_of(second), file=first.name)
    found = failed(case.verify())
    assert f"{first.name} is named by more than one record" in found["records"]
    assert second.name in found["files"]


@pytest.mark.parametrize("change", [{"rows": 1}, {"checksum": "0"}, {"time_min": "2020"}], ids=str)
def test_a_changed_record_is_named(case: Case, change: dict[str, Any]) -> None:
    path = case.fragments()[0]
    edit(case.record_of(path), **change)
    assert f"recorded {next(iter(change.values()))}" in failed(case.verify())["fragments"]


@pytest.mark.parametrize("text", ["{", "[]", '{"shard": 0}'])
def test_a_record_that_is_none_is_named(case: Case, text: str) -> None:
    case.record_of(case.fragments()[0]).write_text(text)
    found = failed(case.verify())
    assert "cannot be read" in found["records"]
    assert case.fragments()[0].name in found["files"]


def test_a_missing_quarantine_file_is_named(case: Case) -> None:
    path = min((case.output / "_quarantine").glob("part-*.parquet"))
    path.unlink()
    found = failed(case.verify())
    assert path.name in found["quarantine"]
    assert "0 in quarantine" in found["exactly once"]


def test_a_quarantine_file_with_other_rows_is_named(case: Case) -> None:
    path = min((case.output / "_quarantine").glob("part-*.parquet"))
    rewrite(path, lambda table: table.slice(1))
    assert path.name in failed(case.verify())["quarantine"]


def test_rows_without_a_key_are_missed_too(case: Case) -> None:
    next((case.output / "_quarantine").glob("rows-without-key-*.parquet")).unlink()
    assert list(failed(case.verify())) == ["quarantine"]


def test_rows_that_were_skipped_though_asked_for_are_named(case: Case) -> None:
    path = case.output / "_slotcar/request.json"
    request = json.loads(path.read_text())
    edit(path, input={**request["input"], "until": "2026-02-01"})
    assert "its time was asked for" in failed(case.verify())["exactly once"]


def test_figures_that_do_not_add_up_are_named(case: Case) -> None:
    edit(case.output / "_slotcar/run.json", rows_scored=1)
    assert "rows_scored = 1" in failed(case.verify())["totals"]


def test_a_run_without_its_mark_is_not_finished(case: Case) -> None:
    (case.output / "_SUCCESS").unlink()
    assert list(failed(case.verify())) == ["finished"]


def test_a_broken_run_holds_as_far_as_it_is_committed_and_is_not_finished(case: Case) -> None:
    """As a driver leaves it that is killed between a record and its rename."""
    (case.output / "_SUCCESS").unlink()
    edit(case.output / "_slotcar/run.json", status="running", rows_scored=0)
    last, first = case.fragments()[-1], case.fragments()[0]
    case.record_of(last).unlink()
    last.unlink()
    for path in (case.output / "_quarantine").glob(last.name):
        path.unlink()
    staged = json.loads(case.record_of(first).read_text())["staged"]
    first.rename(case.output / "_slotcar/staged" / staged)
    found = failed(case.verify())
    assert list(found) == ["finished"]
    assert "not finished" in found["finished"]
    with pytest.raises(AuditFailed, match="what is committed holds, but the run is not finished"):
        expect_holds(case.verify())


def test_a_mark_of_success_on_a_broken_run_is_named(case: Case) -> None:
    edit(case.output / "_slotcar/run.json", status="failed")
    assert "_SUCCESS is there" in failed(case.verify())["finished"]


def test_a_run_that_was_never_planned_is_not_finished(case: Case) -> None:
    shutil.rmtree(case.output)
    (case.output / "_slotcar").mkdir(parents=True)
    (case.output / "_slotcar/run.json").write_text(json.dumps({"run_id": "a", "status": "running"}))
    assert list(failed(case.verify())) == ["finished"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for count in (0, 3):
        with pytest.raises(OutputRefused, match="holds no run"):
            verify(tmp_path, count)
    with pytest.raises(OutputRefused, match="holds no run"):
        verify(tmp_path / "nothing")


def test_a_broken_plan_is_one_sentence(case: Case) -> None:
    (case.output / "_slotcar/plan/plan.json").write_text("{")
    with pytest.raises(RunFailed, match=r"plan\.json"):
        case.verify()


@pytest.fixture
def own(made: Case, tmp_path: Path) -> Case:
    """As `case`, with an input and a model of its own."""
    case = Case(tmp_path)
    shutil.copytree(made.source, case.source)
    shutil.copy(made.model, case.model)
    score_into(case)
    assert case.verify().holds
    return case


def test_an_input_file_that_is_gone_is_named(own: Case) -> None:
    min(own.source.iterdir()).unlink()
    assert "part-000.parquet" in failed(own.verify())["input"]


def test_an_input_that_has_other_rows_since_is_named(own: Case) -> None:
    path = own.source / "part-001.parquet"
    table = pq.read_table(path, partitioning=None)
    swapped = [*range(700), 701, 700, *range(702, table.num_rows)]
    write_cut(own.folder / "new", table.take(swapped), [table.num_rows], [700, 60])
    shutil.move(own.folder / "new/part-000.parquet", path)
    assert {"input", "times"} & set(failed(own.verify()))


def test_an_input_whose_keys_moved_since_is_named(own: Case) -> None:
    path = own.source / "part-000.parquet"
    rows = pq.read_table(path, partitioning=None)
    names = pa.array(["e0001" if name == "e0000" else name for name in rows.column("entity").to_pylist()])
    write_cut(own.folder / "new", rows.set_column(0, "entity", names), [rows.num_rows], [700, 60])
    shutil.move(own.folder / "new/part-000.parquet", path)
    assert "part-000.parquet" in failed(own.verify())["input"]


def test_entities_scored_again_have_their_scores(case: Case) -> None:
    found = case.verify(4)
    assert failed(found) == {}
    assert len(found.rescored) == 4
    rows = [entity.rows for entity in found.rescored]
    lengths = [table_rows for table_rows in sizes(case).values() if table_rows]
    assert max(lengths) in rows
    assert min(lengths) in rows
    assert found.difference is not None
    assert found.difference <= TOLERANCE


def sizes(case: Case) -> dict[str, int]:
    """Scored rows of each entity."""
    names = pa.concat_tables([pq.read_table(path, partitioning=None) for path in case.fragments()]).column("entity")
    return {pair["values"]: pair["counts"] for pair in names.value_counts().to_pylist()}


def test_every_entity_can_be_scored_again(case: Case) -> None:
    found = case.verify(1000)
    assert failed(found) == {}
    assert len(found.rescored) == len(sizes(case))


def test_an_entity_without_a_score_is_not_drawn(tmp_path: Path) -> None:
    case = Case(tmp_path)
    starts = np.cumsum([0, *LENGTHS[:-1]])
    table = with_nulls(make_series(LENGTHS, extra=True), "f1", starts[[0, 3, 7]].tolist())
    write_cut(case.source, table, [100, table.num_rows - 100], [700])
    case.model.write_bytes(save(FIT["lstm"]()))
    score_into(case)
    assert len(sizes(case)) == len(LENGTHS) - 3
    for count in (2, 4, 1000):
        found = case.verify(count)
        assert failed(found) == {}
        assert len(found.rescored) == min(count, len(sizes(case)))
        assert {one.entity.split("'")[1]: one.rows for one in found.rescored}.items() <= sizes(case).items()


def test_scores_in_their_own_units_hold_and_a_thousandth_off_does_not(made: Case, tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.source = made.source
    case.model.write_bytes(save(FIT["scores_in_their_own_units"]()))
    score_into(case)
    assert failed(case.verify(4)) == {}
    assert set(failed(case.verify(4, lambda scores: scores * np.float32(1.001)))) == {"scores"}


def test_scores_of_another_truth_are_named(case: Case) -> None:
    found = case.verify(3, lambda scores: scores + np.float32(0.01))
    assert list(failed(found)) == ["scores"]
    assert found.difference == pytest.approx(0.01, rel=1e-3)
    found = case.verify(3, lambda scores: np.full_like(scores, np.nan))
    assert found.difference == float("inf")
    assert "scored rows" in failed(case.verify(3, lambda scores: scores[:-1]))["scores"]


def test_a_missing_or_other_model_is_one_sentence(own: Case) -> None:
    own.model.write_bytes(save(FIT["gru"]()))
    with pytest.raises(ModelRefused, match="another model now"):
        own.verify(1)
    own.model.unlink()
    with pytest.raises(ModelRefused, match="cannot be read"):
        own.verify(1)
    (own.output / "_slotcar/request.json").unlink()
    with pytest.raises(OutputRefused, match="no request is kept"):
        own.verify(1)
    assert list(failed(own.verify())) == ["request"]


def test_a_long_entity_is_scored_again_up_to_a_bound(case: Case) -> None:
    @contextmanager
    def bounded(spec: AuditSpec, model: bytes) -> Iterator[Rescore]:
        # The bound is the actor's; what is compared with it is cut by the spec that both share.
        object.__setattr__(spec, "rows_max", 500)
        with alone(spec, model, lambda scores: scores) as rescore:
            yield rescore

    found = verify(case.output, 1, bounded)
    assert failed(found) == {}
    assert [entity.rows for entity in found.rescored] == [500]


TYPES: Sequence[Any] = (
    (pa.dictionary(pa.int32(), pa.string()), pa.timestamp("s")),
    (pa.int16(), pa.timestamp("ns", "Europe/Berlin")),
    (pa.large_string(), pa.date64()),
    (pa.binary(), pa.int32()),
    (pa.int64(), pa.string()),
)


@pytest.mark.parametrize(("key_type", "time_type"), TYPES, ids=str)
def test_keys_and_times_of_other_types_hold_too(made: Case, tmp_path: Path, key_type: Any, time_type: Any) -> None:
    case = Case(tmp_path)
    case.model = made.model
    table = make_series((40, 3, 900, 1))
    names = pa.array([name[1:] for name in table.column("entity").to_pylist()])
    keys = names.dictionary_encode().cast(key_type) if pa.types.is_dictionary(key_type) else names.cast(key_type)
    days = pa.array(np.arange(table.num_rows), pa.int32())
    times = days.cast(pa.date32()).cast(pa.timestamp("s")).cast(time_type) if time_type != pa.int32() else days
    table = table.set_column(0, "entity", keys).set_column(1, "time", times)
    write_cut(case.source, table, [500, table.num_rows - 500], [90])
    score_into(case, input={}, write={"rows_per_file": 300})
    assert failed(case.verify(2)) == {}


def test_entities_out_of_order_and_of_several_columns_hold_too(made: Case, tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.model = made.model
    table = make_series((40, 3, 60, 1))
    order = np.random.default_rng(0).permutation(40).tolist() + list(range(40, table.num_rows))
    table = table.take(order).append_column("plant", pa.array(np.arange(table.num_rows) // 200))
    table = table.append_column("tie", pa.array([f"t{row % 3}" for row in range(table.num_rows)]))
    write_cut(case.source, table, [35, 30, table.num_rows - 65], [20])
    score_into(case, input={"entity": ("plant", "entity"), "time": ("time", "tie")}, write={})
    assert failed(case.verify(2)) == {}


def test_fragments_of_checkpoints_hold_too(made: Case, tmp_path: Path) -> None:
    """A fragment then has rows of several entities that are under way, and each goes on in the next one."""
    case = Case(tmp_path)
    case.source, case.model = made.source, made.model
    score_into(case, checkpoint_s=0.01)
    assert len(case.fragments()) > len({path.name[:11] for path in case.fragments()}) + 3
    assert failed(case.verify(3)) == {}


@pytest.mark.ray
def test_an_actor_on_ray_scores_again(case: Case) -> None:
    found = verify(case.output, 2, ray_rescore)
    assert failed(found) == {}
    assert len(found.rescored) == 2
