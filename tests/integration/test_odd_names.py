"""Entities, columns, files and folders with names that a terminal, rich, HTML or UTF-8 would stumble over.

Each goes the whole road: plan, score, verify, status, report, state, and the next night. Everything that is printed is
looked at: nothing in it may act on a terminal, every name must be there as it can be seen, and JSON must be JSON.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.runtime.audit.audit import audit
from cluster.runtime.storage.local_store import LocalStore
from jobs.commands.report import write_at_end
from jobs.commands.score import request_of
from jobs.config.configuration import load_config
from lstm_core.shown_text import shown
from tests.harness.commands import command
from tests.harness.inprocess import in_process
from tests.inputs.series import make_series, replace, with_nulls
from tests.models.keras_models import FIT, save
from tests.unit.jobs.terminal.test_json_text import strictly

MODEL = save(FIT["lstm"]())
NAMES = (
    "pump[north]",
    "x[/]",
    "[red]y",
    "[link=http://x]z[/link]",
    ":warning:",
    "<b>&amp;",
    "a\x1b[31mb\x1b]0;title\x07",
    "c\x9b2K\x85",
    "abc\u202egnp.exe",
    "\u2066iso\u2069",
    "new\nline",
    "tab\there",
    'back\\slash\'s "quotes"',
    "泵 ü 😀",
)
BYTES = (b"M\xfcnchen", b"\xff\xfe\x00", b"\x1b[2J\xc3")
CONFIG = """
[model]
path = "m.keras"
slots = 8
chunk = 4
[input]
path = "in"
entity = ["entity"]
time = ["time"]
features = ["f0", "f1", "f2"]
[output]
path = "out"
[state]
write = "state"
[cluster]
replicas = 1
[faults]
quarantine_limit = 1.0
"""


def lay(folder: Path, entities: Any, file: bytes = b"part.parquet") -> str:
    """Two entities of these names, one of them with a bad row, in a file of that name."""
    place = Path(os.fsdecode(bytes(folder / "in"))) / os.fsdecode(file)
    place.parent.mkdir(parents=True, exist_ok=True)
    table = with_nulls(replace(make_series([4, 3]), "entity", entities), "f1", [5])
    with place.open("wb") as out:
        pq.write_table(table, out)
    (folder / "m.keras").write_bytes(MODEL)
    (folder / "job.toml").write_text(CONFIG)
    return str(folder / "job.toml")


def raw_text(values: list[bytes]) -> Any:
    """A column of text with these bytes."""
    return pa.array(values, pa.binary()).view(pa.string())


def score(config: str, *overrides: str) -> dict[str, Any]:
    from cluster.runtime.run.run import score as run

    record = run(request_of(load_config(config, overrides)), open_cluster=in_process, at_end=write_at_end)
    assert record["rows_in"] == sum(record[f"rows_{name}"] for name in ("scored", "quarantined", "skipped"))
    return record


class Said:
    """Runs commands, and looks at all that they print."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._capfd.readouterr()
        assert command(*arguments) == code
        out, err = self._capfd.readouterr()
        for text in (out, err):
            check_shown(text)
        if "--json" in arguments and code == 0:
            strictly(out)
        return out + err


def check_shown(text: str) -> None:
    """Nothing in it acts, but the ends of lines."""
    acting = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs", "Cf") and letter != "\n"}
    assert acting <= {"\u200d"}, acting


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    return Said(capfd)


def unwrapped(text: str) -> str:
    """Without the borders and the breaks of tables."""
    return re.sub(r"[\s│┃]+", "", text)


def check_road(said: Said, config: str, folder: Path, seen: list[str]) -> None:
    """Every command, and each of these texts in what it says of entities."""
    said("plan", config)
    said("plan", config, "--json")
    assert score(config)["rows_quarantined"] == 2
    out = str(folder / "out")
    said("verify", out)
    said("verify", out, "--json")
    said("status", out)
    said("status", out, "--json")
    said("report", out)
    page = (folder / "out" / "_slotcar" / "report.html").read_text(encoding="utf-8")
    check_shown(page)
    assert [check.first for check in audit(LocalStore(out)).checks if check.failures] == []
    said("state", "show", str(folder / "state"))
    said("state", "show", str(folder / "state"), "--json")
    told = unwrapped(said("state", "diff", str(folder / "state"), str(folder / "state")))
    assert "2entities" in told
    score(config, "output.path=out2", "state.read=state", "state.write=state2", "input.path=in2")
    told = unwrapped(said("state", "diff", str(folder / "state"), str(folder / "state2")))
    for text in seen:
        assert unwrapped(text) in told


def lay_next(folder: Path, entities: Any) -> None:
    """The next night: rows behind those of the first."""
    table = make_series([9, 9], seed=1)
    later = [row for start in (0, 9) for row in range(start + 5, start + 9)]
    (folder / "in2").mkdir()
    pq.write_table(replace(table.take(later), "entity", entities), folder / "in2" / "part.parquet")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_entity_of_any_name_goes_the_whole_road(tmp_path: Path, said: Said, name: str) -> None:
    config = lay(tmp_path, pa.array([name] * 4 + ["other"] * 3))
    lay_next(tmp_path, pa.array([name] * 4 + ["other"] * 4))
    check_road(said, config, tmp_path, [f"entity={name!r}"])
    told = said("state", "show", str(tmp_path / "state"), "--entity", name)
    assert unwrapped(shown(name)) in unwrapped(told)
    found = strictly(said("state", "show", str(tmp_path / "state"), "--entity", name, "--json"))
    assert found["entity"][0]["entity"] == name


@pytest.mark.parametrize("name", BYTES, ids=repr)
def test_an_entity_that_is_no_utf8_goes_the_whole_road(tmp_path: Path, said: Said, name: bytes) -> None:
    config = lay(tmp_path, raw_text([name] * 4 + [b"other"] * 3))
    lay_next(tmp_path, raw_text([name] * 4 + [b"other"] * 4))
    check_road(said, config, tmp_path, [f"entity={name!r}"])
    found = strictly(said("state", "show", str(tmp_path / "state"), "--entity", os.fsdecode(name), "--json"))
    assert found["entity"][0]["entity"] == repr(name)
    scored = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.parquet")))
    assert set(scored.column("entity").cast(pa.binary()).to_pylist()) == {name, b"other"}


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_interleaved_entities_of_any_name_are_told(tmp_path: Path, said: Said, name: str) -> None:
    config = lay(tmp_path, pa.array([name, "other"] * 3 + [name]))
    assert unwrapped(f"entity={name!r}") in unwrapped(said("plan", config))
    score(config)
    said("verify", str(tmp_path / "out"))


@pytest.mark.parametrize("name", [*map(str.encode, NAMES), *(name.replace(b"\0", b"") for name in BYTES)], ids=repr)
def test_files_and_folders_of_any_name_are_read_and_told(tmp_path: Path, said: Said, name: bytes) -> None:
    name = name.replace(b"/", b"-")
    config = lay(tmp_path, pa.array(["a"] * 4 + ["b"] * 3), name + b"/part-" + name + b".parquet")
    assert score(config)["rows_quarantined"] == 2
    said("verify", str(tmp_path / "out"))
    said("report", str(tmp_path / "out"))
    (line,) = [
        line
        for path in (tmp_path / "out" / "_quarantine").glob("*.parquet")
        for line in pq.read_table(path).to_pylist()
    ]
    assert line["file"].startswith(str(tmp_path / "in"))
    assert [check.first for check in audit(LocalStore(str(tmp_path / "out"))).checks if check.failures] == []
    path = Path(os.fsdecode(bytes(tmp_path / "in") + b"/" + name)) / os.fsdecode(b"part-" + name + b".parquet")
    path.write_bytes(b"x")
    told = said("plan", config, "--set", "output.path=elsewhere", code=1)
    assert shown(str(path)) in told


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_columns_of_any_name_are_told(tmp_path: Path, said: Said, name: str) -> None:
    config = lay(tmp_path, pa.array(["a"] * 4 + ["b"] * 3))
    table = pq.read_table(tmp_path / "in" / "part.parquet")
    pq.write_table(table.rename_columns([name, *table.column_names[1:]]), tmp_path / "in" / "part.parquet")
    said("plan", config, code=2)
    text = (tmp_path / "job.toml").read_text()
    spelt = "".join(f"\\U{ord(letter):08x}" for letter in name)
    (tmp_path / "job.toml").write_text(text.replace('entity = ["entity"]', f'entity = ["{spelt}"]'))
    said("plan", config)
    assert score(config)["rows_quarantined"] == 2
    said("verify", str(tmp_path / "out"))
    told = said("state", "show", str(tmp_path / "state"), "--entity", "a")
    assert unwrapped(shown(name)) in unwrapped(told)


@pytest.mark.parametrize("name", [b"caf\xe9", b"x[/a]", b"a\x1b[31m"], ids=repr)
def test_an_output_of_any_name_is_read(tmp_path: Path, said: Said, name: bytes) -> None:
    config = lay(tmp_path, pa.array(["a"] * 4 + ["b"] * 3))
    score(config)
    place = os.fsdecode(bytes(tmp_path) + b"/" + name.replace(b"/", b"-"))
    os.rename(tmp_path / "out", place)
    for arguments in (("status", place), ("verify", place), ("report", place)):
        assert unwrapped(shown(Path(place).name)) in unwrapped(said(*arguments))
        strictly(said(*arguments, "--json"))


@pytest.mark.parametrize("key", ["input.path", "input.entity", "output.path", "model.path", "state.read"])
def test_a_setting_that_is_not_utf8_is_refused(tmp_path: Path, said: Said, key: str) -> None:
    config = lay(tmp_path, pa.array(["a"] * 4 + ["b"] * 3))
    raw = tmp_path / "in" / os.fsdecode(b"caf\xe9")
    raw.mkdir()
    told = said("plan", config, "--set", f"{key}={raw}", code=2)
    assert f"{key} is {shown(str(raw))}, which is not UTF-8" in told
    (tmp_path / "in" / "part.parquet").rename(raw / "part.parquet")
    (tmp_path / "link").symlink_to(raw)
    if key == "input.path":
        said("plan", config, "--set", "input.path=link")


def test_a_folder_that_names_a_value_and_is_not_utf8_is_refused(tmp_path: Path, said: Said) -> None:
    config = lay(tmp_path, pa.array(["a"] * 4 + ["b"] * 3), b"entity=M\xfcn/part.parquet")
    assert "entity=M\\xfcn has a name that is not UTF-8" in said("plan", config, code=2)
