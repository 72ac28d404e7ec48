"""Damaged, half-deleted, foreign and hostile folders: one sentence or a finding, and never a traceback or a hang."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.commands.verify import run as verify
from tests.harness.commands import command
from tests.harness.stranger import Victim

FILES = (
    "run.json",
    "request.json",
    "now.json",
    "plan/plan.json",
    "plan/plan.parquet",
    "plan/bad.parquet",
    "commits/000000-00000.json",
    "timeline/00000001-00000.jsonl",
    "timeline/x.jsonl",
    "lock/00000009.json",
    "lock/00000009.beat",
    "lock/x.json",
)
CONTENTS = {
    "nothing": b"",
    "a list": b"[]",
    "an empty object": b"{}",
    "null": b"null",
    "no UTF-8": b"\xff\xfe",
    "half an object": b'{"run_id": "x", "sta',
    "numbers for texts": b'{"run_id": 5, "identity": [], "status": 5, "shard": "0", "event": 5, "at_s": "x"}',
    "other types": b'{"run_id": "x", "identity": "x", "status": "done", "stage_s": 5, "files": 1, "input": 1}',
    "another version": b'{"format": 99, "run_id": "x", "identity": "x", "status": "new", "slots": null}',
    "a deep list": b"[" * 100_000,
    "a large number": b'{"run_id": "x", "identity": "x", "status": "done", "rows_in": 1e999, "slots": 1e400}',
    "a torn table": b"PAR1\x00\x00PAR1",
}
LOOKS = (("status",), ("verify",), ("report",))
every_file = pytest.mark.parametrize("name", FILES)


def expect_sentence(capsys: pytest.CaptureFixture[str], *arguments: str) -> int:
    """A command ends by itself, with a code and at most one sentence."""
    code = command(*arguments)
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("slotcar: ")]
    assert "Traceback" not in said
    assert code in (0, 1, 2)
    assert len(lines) == (1 if code else 0), said
    return code


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@every_file
def test_a_file_of_a_run_may_hold_anything(
    victim: Victim, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    victim.place(name).parent.mkdir(exist_ok=True)
    victim.place(name).write_bytes(content)
    for look in LOOKS:
        expect_sentence(capsys, *look, str(victim.output))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a file with a hole: it takes no space


def _nothing(path: Path) -> None:
    """It is gone."""


KINDS = {kind.__name__: kind for kind in (_pipe, _folder, _device, _circle, _huge, _nothing)}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@pytest.mark.timeout(60)
@every_kind
@every_file
def test_a_file_of_a_run_may_be_no_file(
    victim: Victim, name: str, kind: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = victim.place(name)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    kind(path)
    for look in LOOKS:
        expect_sentence(capsys, *look, str(victim.output))


@pytest.mark.timeout(60)
@every_kind
@pytest.mark.parametrize("where", ["part", "_SUCCESS", "the folder"])
def test_carry_over_may_be_anything(
    victim: Victim, where: str, kind: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = victim.state if where == "the folder" else victim.state / where
    if where == "part":
        path = next(victim.state.glob("*.parquet"))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    kind(path)
    assert expect_sentence(capsys, "state", "show", str(victim.state)) in (1, 2)
    assert expect_sentence(capsys, "verify", str(victim.second)) in (1, 2)


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_mark_of_carry_over_may_hold_anything(
    victim: Victim, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (victim.state / "_SUCCESS").write_bytes(content)
    assert expect_sentence(capsys, "state", "show", str(victim.state)) in (1, 2)
    assert expect_sentence(capsys, "verify", str(victim.second)) in (1, 2)


@pytest.mark.timeout(60)
@every_kind
def test_a_fragment_may_be_anything(
    victim: Victim, kind: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(victim.output.glob("*.parquet"))
    path.unlink()
    kind(path)
    for look in LOOKS:
        code = expect_sentence(capsys, *look, str(victim.output))
        assert code == 1 or look != ("verify",)


@pytest.mark.parametrize("folder", ["plan", "commits", "timeline", "lock", ""])
def test_a_folder_may_be_gone(victim: Victim, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(victim.place(folder))
    for look in LOOKS:
        expect_sentence(capsys, *look, str(victim.output))


def test_what_is_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file", tmp_path / "nothing", Path("/proc"), Path("/dev/null")):
        for look in (*LOOKS, ("state", "show")):
            assert expect_sentence(capsys, *look, str(place)) in (1, 2)


@pytest.mark.timeout(60)
@every_kind
def test_the_model_that_an_output_names_may_be_anything(
    victim: Victim, kind: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    victim.model.unlink()
    kind(victim.model)
    assert expect_sentence(capsys, "verify", str(victim.output), "--rescore", "1") in (1, 2)


# ---- what verify sees


def failed(victim: Victim) -> dict[str, str]:
    return {check.name: str(check.first) for check in verify(victim.output).checks if not check.holds}


@pytest.mark.parametrize(
    "name", ["sub/evil.parquet", "a/b/c/evil.parquet", "day=1/x.parquet", "evil.parq", "x.PARQUET"]
)
def test_verify_sees_tables_that_a_reader_of_the_folder_would_read(victim: Victim, name: str) -> None:
    assert failed(victim) == {}
    place = victim.output / name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(next(victim.output.glob("part-*.parquet")), place)
    assert name in failed(victim)["files"]


def test_verify_sees_folders_that_are_links(victim: Victim, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (victim.output / "sub").symlink_to(tmp_path / "elsewhere")
    assert "sub/" in failed(victim)["files"]


@pytest.mark.parametrize("name", ["_sub/x.parquet", ".hidden/x.parquet", "sub/_x.parquet", "notes/readme.txt"])
def test_what_readers_leave_out_is_no_finding(victim: Victim, name: str) -> None:
    (victim.output / name).parent.mkdir(parents=True)
    (victim.output / name).write_bytes(b"x")
    assert failed(victim) == {}


def test_verify_misses_a_request(victim: Victim) -> None:
    victim.place("request.json").unlink()
    assert "request.json" in failed(victim)["request"]


CHANGED: dict[str, Any] = {
    "model_fingerprint": "0" * 64,
    "versions": {"tensorflow": "9"},
    "slots": 99,
    "chunk": 3,
    "run_id": "another",
    "identity": "another",
}


@pytest.mark.parametrize(("name", "value"), CHANGED.items(), ids=CHANGED.keys())
def test_verify_sees_a_run_json_that_is_not_of_this_run(victim: Victim, name: str, value: Any) -> None:
    victim.edit("run.json", lambda run: run.update({name: value}))
    assert name in failed(victim)["request"]


@pytest.mark.parametrize("name", ["entity", "time"])
def test_verify_sees_a_request_of_other_columns(victim: Victim, name: str) -> None:
    victim.edit("request.json", lambda stored: stored["input"].update({name: ["other"]}))
    assert "request" in failed(victim)


def test_a_request_of_an_earlier_version_says_no_versions(victim: Victim) -> None:
    victim.edit("request.json", lambda stored: stored.pop("versions") and None)
    assert "versions" not in json.loads(victim.place("request.json").read_text())
    assert failed(victim) == {}
