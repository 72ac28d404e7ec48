"""Others may write to an output: whoever resumes the run there writes, moves and removes nothing elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.commit import Fragment
from cluster.run_errors import RunFailed, StoreFault
from cluster.runtime.run.run import score
from cluster.runtime.storage.local_store import LocalStore
from tests.harness.inprocess import in_process
from tests.harness.stranger import Victim

NAMES = [field.name for field in fields(Fragment) if str(field.type).startswith("str") and "sum" not in field.name]
LEADING_AWAY = ("../x.parquet", "../../../elsewhere/keep.txt", "/etc/passwd", "a/b.parquet", "..", "", ".hidden.tmp")


@pytest.fixture
def elsewhere(victim: Victim) -> Path:
    """A folder beside the output with files that nobody may touch."""
    folder = victim.folder / "elsewhere"
    folder.mkdir()
    (folder / "keep.txt").write_text("precious")
    victim.break_off()
    (victim.place("staged") / "payload").write_text("of a stranger")
    (victim.output / "_quarantine").mkdir(exist_ok=True)
    return folder


def expect_refused(victim: Victim, elsewhere: Path, kind: type[Exception] = RunFailed) -> str:
    with pytest.raises(kind) as refused:
        victim.first_night()
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == {"keep.txt": "precious"}
    return str(refused.value)


RECORDS: dict[str, dict[str, Any]] = {
    "writes over a file": {"quarantine_staged": "payload", "quarantine_file": "../../elsewhere/keep.txt"},
    "takes a file": {"quarantine_staged": "../../../elsewhere/keep.txt", "quarantine_file": "part-000000-x.parquet"},
    "has its snapshot removed": {"final": False, "snapshot": "../../../elsewhere/keep.txt"},
    "is hidden": {"quarantine_staged": "payload", "quarantine_file": "part-0/../../elsewhere/keep.txt.parquet"},
}


@pytest.mark.parametrize("changes", RECORDS.values(), ids=RECORDS.keys())
def test_a_record_cannot_lead_out_of_the_output(victim: Victim, elsewhere: Path, changes: dict[str, Any]) -> None:
    record = victim.record()
    record.write_text(json.dumps(json.loads(record.read_text()) | changes))
    assert record.name in expect_refused(victim, elsewhere)


@pytest.mark.parametrize("key", [name for name in NAMES if not name.startswith("time")])
@pytest.mark.parametrize("name", LEADING_AWAY)
def test_every_name_in_a_record_is_a_plain_one(key: str, name: str) -> None:
    good = Fragment(0, 0, 1, True, "part-000000-00000-r.parquet", "part-0.1-1", 1, 1, "sum", None, None)
    assert Fragment.from_json(good.to_json()) == good
    with pytest.raises(ValueError, match="name"):
        Fragment.from_json(replace(good, **{key: name}).to_json())


@pytest.mark.parametrize("key", ["file", "quarantine_file", "carry_file"])
@pytest.mark.parametrize("name", ["_SUCCESS", "evil.parquet", "part-x.sh", "kept-000000.parquet"])
def test_what_is_published_is_a_part(key: str, name: str) -> None:
    good = Fragment(0, 0, 1, True, "part-000000-00000-r.parquet", "part-0.1-1", 1, 1, "sum", None, None)
    with pytest.raises(ValueError, match="name"):
        Fragment.from_json(replace(good, **{key: name}).to_json())


@pytest.mark.parametrize("text", ["[]", "{}", "5", '{"shard": 0}', "null", '"x"'])
def test_a_record_that_is_none_is_one_sentence(victim: Victim, elsewhere: Path, text: str) -> None:
    victim.record().write_text(text)
    assert "no commit record" in expect_refused(victim, elsewhere)


@pytest.mark.parametrize("folder", ["staged", "commits", "snapshots", "plan", "lock"])
def test_a_folder_of_a_run_is_no_link(victim: Victim, elsewhere: Path, folder: str) -> None:
    place = victim.place(folder)
    if place.exists():
        place.rename(victim.folder / f"{folder}-kept")
    place.symlink_to(elsewhere)
    assert "is a link" in expect_refused(victim, elsewhere, StoreFault)


def test_a_run_does_without_its_timeline_rather_than_write_through_a_link(victim: Victim, elsewhere: Path) -> None:
    shutil.rmtree(victim.place("timeline"))
    victim.place("timeline").symlink_to(elsewhere)
    assert victim.first_night()["status"] == "done"
    assert [path.name for path in elsewhere.iterdir()] == ["keep.txt"]


@pytest.mark.parametrize("folder", ["staged", "commits", "plan"])
def test_overwrite_removes_nothing_through_a_link(victim: Victim, elsewhere: Path, folder: str) -> None:
    shutil.rmtree(victim.place(folder))
    victim.place(folder).symlink_to(elsewhere)
    with pytest.raises(StoreFault, match="is a link"):
        _overwrite(victim)
    assert (elsewhere / "keep.txt").read_text() == "precious"


def _overwrite(victim: Victim) -> None:
    request = victim.request(victim.output)
    score(replace(request, output=replace(request.output, overwrite=True)), open_cluster=in_process)


def test_a_link_among_the_fragments_is_removed_and_not_what_it_names(victim: Victim, elsewhere: Path) -> None:
    (victim.output / "part-999999-00000-stray.parquet").symlink_to(elsewhere / "keep.txt")
    victim.first_night()
    assert (elsewhere / "keep.txt").read_text() == "precious"
    assert not list(victim.output.glob("*stray*"))


PLANS: dict[str, Callable[[Victim], str]] = {
    "a bucket": lambda victim: "s3://elsewhere/in.parquet",
    "a host": lambda victim: "abfs://c@elsewhere.dfs.core.windows.net/in.parquet",
    "a file": lambda victim: str(victim.folder / "secret.parquet"),
    "a file by way of the input": lambda victim: f"{victim.source}/../secret.parquet",
}


@pytest.mark.parametrize("place", PLANS.values(), ids=PLANS.keys())
def test_a_plan_cannot_name_rows_elsewhere(victim: Victim, elsewhere: Path, place: Callable[[Victim], str]) -> None:
    shutil.copy(next(iter(victim.source.iterdir())), victim.folder / "secret.parquet")
    victim.edit("plan/plan.json", lambda plan: plan["files"][0].update(path=place(victim)))
    assert "input.path" in expect_refused(victim, elsewhere)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", "./x"])
def test_a_store_has_no_name_that_leads_out_of_it(tmp_path: Path, name: str) -> None:
    store = LocalStore(str(tmp_path / "root"))
    for act in (store.read, store.find, store.remove, store.exists, store.open_input, store.open_output):
        with pytest.raises(StoreFault):
            act(name)
    with pytest.raises(StoreFault):
        store.write(name, b"")
    with pytest.raises(StoreFault):
        store.publish("a", name)
    with pytest.raises(StoreFault):
        store.publish(name, "a")
    assert not (tmp_path / "x").exists()
