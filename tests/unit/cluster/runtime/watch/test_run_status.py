"""`slotcar status`, on outputs in every state that a run may leave them in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.core.commit import STAGED, Fragment, fragment_name
from cluster.core.lock import Claim, beat_name, claim_name
from cluster.core.plan.shard_plan import Plan, make_plan
from cluster.runtime.commit.commit import NOW, PLAN, RUN, Commits
from cluster.runtime.commit.lock import hold_lock, this_process
from cluster.runtime.plan.input_scan import make_inventory
from cluster.runtime.plan.plan_files import write_plan
from cluster.runtime.storage.local_store import LocalStore
from cluster.runtime.watch.data_console import DataConsole
from cluster.runtime.watch.progress import Progress
from jobs.commands.status import follow, run
from lstm_core.errors import UsageError
from lstm_core.exit_codes import EXIT_USAGE
from tests.inputs.series import make_series, settings_for, write_cut
from tests.paths import ROOT

LENGTHS = [50, 30, 20]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two shards: of one entity of 50 rows, and of two of 30 and 20."""
    table = make_series(LENGTHS)
    write_cut(tmp_path / "in", table, [table.num_rows], [100])
    return make_plan(make_inventory(settings_for(tmp_path / "in"), map), shard_rows=50)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path / "out"))


@contextmanager
def begun(store: LocalStore, plan: Plan, status: str = "running") -> Iterator[Commits]:
    """A run with a plan, under its lock, that says `status` in the end."""
    with hold_lock(store, "run") as lock:
        commits = Commits(store, lock)
        commits.prepare()
        write_plan(store, plan)
        commits.write_run_record({"run_id": "run", "status": "running", "started_at": "2026-11-22T01:02:03+00:00"})
        yield commits
        commits.write_run_record({**(commits.run_record() or {}), "status": status})


def commit(commits: Commits, shard: int, rows: int, index: int = 0, **changes: Any) -> None:
    name = fragment_name("run", shard, index)
    commits.store.write(f"{STAGED}/{name}.1", b"")
    made = Fragment(shard, index, 1, True, name, f"{name}.1", rows, 1, "", None, None)
    commits.commit(replace(made, **changes))


def found(store: LocalStore) -> dict[str, Any]:
    """The status, without a trace of having been asked."""
    before = everything(store)
    values = run(store.root).as_dict()
    assert everything(store) == before
    return values


def everything(store: LocalStore) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path(store.root).rglob("*") if path.suffix != ".beat"}


def dead(store: LocalStore) -> None:
    """The driver is killed: its claim stays, its process is no more."""
    name = claim_name(1)
    claim = Claim.from_json(store.read(name))
    store.write(name, Claim(1, replace(claim.holder, began="0")).to_json())


def test_a_running_run_says_how_far_it_is_and_who_is_at_it(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan) as commits:
        commit(commits, 0, 20, final=False)
        commit(commits, 0, 25, 1, rows_quarantined=5)
        commit(commits, 1, 10, final=False)
        values = found(store)
    me = this_process("run")
    assert values["status"] == "running"
    assert (values["rows_done"], values["rows_total"], values["rows_quarantined"]) == (60, 100, 5)
    assert (values["shards_done"], values["shards_total"]) == (1, 2)
    assert (values["entities_done"], values["entities_total"]) == (1, 3)
    assert values["fragments"] == 3
    assert (values["driver"]["host"], values["driver"]["pid"]) == (me.host, me.pid)
    assert 0 <= values["driver"]["heartbeat_age_s"] < 20
    assert values["last_commit_at"] >= values["driver"]["since"]
    assert values["next"].startswith("wait")


def test_rows_in_quarantine_are_no_part_of_those_that_are_done(store: LocalStore, plan: Plan) -> None:
    """Rows without a key are in no shard: the table must not call them a part of the shards' rows."""
    head = replace(plan.head, rows_bad=7, rows_in=plan.head.rows_in + 7)
    with begun(store, replace(plan, head=head), "quarantine") as commits:
        commit(commits, 0, 45, rows_quarantined=5)
    report = run(store.root)
    assert (report.status, report.next_step) == ("quarantine", report.as_dict()["next"])
    assert (report.found.rows_done, report.found.rows_quarantined) == (50, 12)
    page = DataConsole(width=200)
    with page.capture() as shown:
        page.print(report.render())
    assert "of them" not in shown.get()
    assert "12, with those without an entity or a time" in shown.get()
    assert "mend the rows and give a new output.path, or give the same command a higher" in shown.get()


def test_a_run_that_is_still_planned_is_running_and_has_no_totals(store: LocalStore) -> None:
    with hold_lock(store, "run"):
        values = found(store)
    assert (values["status"], values["run_id"], values["rows_total"]) == ("running", "run", None)


def test_a_killed_driver_leaves_a_broken_run(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan) as commits:
        commit(commits, 0, 50)
    dead(store)
    values = found(store)
    assert (values["status"], values["driver"], values["rows_done"]) == ("broken", None, 50)
    assert "the same command again" in values["next"]


def test_a_driver_that_was_killed_before_it_wrote_leaves_a_broken_run(store: LocalStore) -> None:
    holder = replace(this_process("run"), began="0")
    store.write(claim_name(1), Claim(1, holder).to_json())
    assert found(store)["status"] == "broken"


@pytest.mark.parametrize(("beat", "status"), [(b"7 2026-01-01T00:00:00+00:00", "broken"), (None, "running")])
def test_a_driver_elsewhere_is_believed_by_its_beat(store: LocalStore, plan: Plan, beat: Any, status: str) -> None:
    with begun(store, plan):
        claim = Claim.from_json(store.read(claim_name(1)))
        elsewhere = replace(claim.holder, machine="another", host="elsewhere")
        store.write(claim_name(1), Claim(1, elsewhere).to_json())
        if beat:
            store.write(beat_name(1), beat)
        assert found(store)["status"] == status


@pytest.mark.parametrize("status", ["failed", "stopped", "quarantine"])
def test_a_run_that_ended_says_how(store: LocalStore, plan: Plan, status: str) -> None:
    with begun(store, plan, status):
        pass
    values = found(store)
    assert (values["status"], values["driver"]) == (status, None)


def test_a_failed_run_says_why(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan, "failed") as commits:
        commits.write_run_record({**(commits.run_record() or {}), "error": "The disk is full."})
    assert found(store)["error"] == "The disk is full."


def test_a_finished_run_has_nothing_left_to_do(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan, "done") as commits:
        commit(commits, 0, 50)
        commit(commits, 1, 50)
        commits.succeed()
    values = found(store)
    assert (values["status"], values["rows_done"], values["entities_done"]) == ("done", 100, 3)
    assert values["next"].startswith("nothing")


def test_all_but_the_last_mark_is_a_broken_run(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan, "done"):
        pass
    assert found(store)["status"] == "broken"


def test_a_run_whose_clearing_was_broken_off_is_broken(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan):
        store.remove(f"{PLAN}/plan.json")
        assert store.exists(RUN)
    assert found(store)["status"] == "broken"


@pytest.mark.parametrize("name", ["none", "in", "file"])
def test_what_is_no_run_is_refused(tmp_path: Path, plan: Plan, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="holds no run of slotcar"):
        run(str(tmp_path / name))


def test_the_command_prints_a_table_or_one_json_object(store: LocalStore, plan: Plan) -> None:
    with begun(store, plan, "failed") as commits:
        commit(commits, 0, 50)
    table, values = (slotcar("status", store.root, *more).stdout for more in ((), ("--json",)))
    assert json.loads(values) == json.loads(json.dumps(run(store.root).as_dict()))
    assert "50 of 100 (50.0%)" in table
    assert ": failed" in table
    refused = slotcar("status", str(ROOT / "jobs"))
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (EXIT_USAGE, "", 1)


def slotcar(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_following_shows_how_far_the_run_is_until_it_ends(store: LocalStore, plan: Plan) -> None:
    looks = 0
    with ExitStack() as running:
        commits = running.enter_context(begun(store, plan, "stopped"))

        def pause(seconds: float) -> None:
            nonlocal looks
            looks += 1
            fields = dict.fromkeys(Progress.__dataclass_fields__, 0)
            commits.store.write(NOW, json.dumps({**fields, "rows_done": looks * 10}).encode())
            if looks == 3:
                running.close()

        assert follow(store.root, pause).found.status == "stopped"
    assert looks == 3
