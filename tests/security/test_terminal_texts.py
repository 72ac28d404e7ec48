"""Texts of data are shown, not obeyed: no control sequence and no markup of theirs acts on a terminal or in a log."""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Group
from rich.table import Table

from cluster.runtime.run.run import score
from cluster.runtime.watch.data_console import DataConsole
from jobs.commands import score as score_job
from jobs.job_package import as_toml
from lstm_core.own_packages import PACKAGES
from lstm_core.shown_text import shown
from tests.harness.commands import command
from tests.harness.inprocess import in_process
from tests.models.keras_models import FIT, save
from tests.paths import ROOT

TITLE, CLEAR, C1, BIDI = "\x1b]0;owned\x07", "\x1b[2J\x1b[31m", "\x9b31m", "\u202etxt.exe\u2066"
MARKUP = "[bold red]x[/bold red][/nothing] :skull: [link=file:///etc/passwd]y[/link]"
LINE = "e\n12:00:00 INFO run x: all is good\r"
HIDDEN = "a\u200b\u2060\ufeff\U000e0041b"
TEXTS = {"title": TITLE, "clear": CLEAR, "c1": C1, "bidi": BIDI, "markup": MARKUP, "line": LINE, "hidden": HIDDEN}
ACTS = set("".join((TITLE, CLEAR, C1, BIDI, HIDDEN))) - set(map(chr, range(0x20, 0x7F))) | {"\r"}
by_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
by_command = pytest.mark.parametrize("text", [TITLE + CLEAR + C1 + BIDI + HIDDEN + MARKUP, LINE], ids=["acts", "line"])


def harmless(told: str) -> None:
    assert {repr(character) for character in told if character in ACTS} == set()


@by_text
def test_a_terminal_is_sent_what_a_text_says_and_nothing_that_it_does(text: str) -> None:
    sent = io.StringIO()
    console = DataConsole(file=sent, force_terminal=True, width=400, color_system=None)
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    console.print(table)
    console.print(Group(text, text), text, highlight=False)
    harmless(sent.getvalue())
    assert sent.getvalue().count(shown(text)) == 7


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What commands print, on both streams; asserted at the end that none of it acts."""
    monkeypatch.setattr(score_job, "score", partial(score, open_cluster=in_process))
    yield
    said = capfd.readouterr()
    for stream in (said.out, said.err):
        harmless(stream)
        assert "Traceback" not in stream
        assert not any(line.startswith("12:00:00 INFO run x") for line in stream.splitlines())


def run_in(folder: Path, text: str) -> Path:
    """A run whose entities, columns, folders and name are hostile; its configuration."""
    rows, place = 12, folder / f"in {text.replace('/', '|')}"
    place.mkdir(parents=True)
    columns = {
        "key " + text: pa.array([f"{index} {text}" for index in range(3) for _ in range(rows)]),
        "time": pa.array(list(range(rows)) * 3, pa.int64()),
        **{f"f{index}": pa.array([0.5] * 3 * rows, pa.float32()) for index in range(3)},
        "kept " + text: pa.array([text] * 3 * rows),
    }
    pq.write_table(pa.table(columns), place / "part.parquet")
    (folder / "m.keras").write_bytes(save(FIT["lstm"]()))
    values = {
        "model": {"path": "m.keras", "slots": 2, "chunk": 4},
        "input": {
            "path": place.name,
            "entity": ["key " + text],
            "time": ["time"],
            "features": ["f0", "f1", "f2"],
        },
        "output": {"path": f"out {text.replace('/', '|')}", "keep": ["kept " + text]},
        "state": {"write": "state"},
        "cluster": {"replicas": 1},
    }
    config = folder / "c.toml"
    config.write_text(as_toml(values), encoding="utf-8")
    return config


@by_command
def test_no_command_obeys_the_names_of_entities_columns_and_folders(text: str, tmp_path: Path, told: None) -> None:
    config = run_in(tmp_path, text)
    output, state = str(tmp_path / f"out {text.replace('/', '|')}"), str(tmp_path / "state")
    assert command("plan", str(config)) == 0
    assert command("score", str(config)) == 0
    for words in (["status", output], ["verify", output], ["report", output], ["state", "diff", state, state]):
        assert command(*words) == 0
    assert command("state", "show", state, "--entity", f"1 {text}") == 0
    assert command("state", "show", state, "--entity", f"none {text}") == 2
    assert command("score", str(config), "--set", f"input.time=no {text.strip()}") == 2
    assert command("score", str(config), "--set", f"nothing.{text}=1") == 2
    assert command("status", f"{output} {text}") != 0
    assert command(text) == 2


@by_command
def test_status_and_report_do_not_obey_the_record_of_another_writer(text: str, tmp_path: Path, told: None) -> None:
    """run.json may be anybody's: its error, its name, its versions."""
    config = run_in(tmp_path, "plain")
    assert command("score", str(config)) == 0
    output = tmp_path / "out plain"
    (output / "_SUCCESS").unlink()
    record = json.loads((output / "_slotcar" / "run.json").read_text())
    record |= {"status": "failed", "error": text, "run_id": text, "kernel": text, "versions": {text: text}}
    (output / "_slotcar" / "run.json").write_text(json.dumps(record))
    for words in (["status"], ["verify"], ["report"]):
        command(*words, str(output))


@by_command
def test_inspect_does_not_obey_the_names_of_layers(text: str, tmp_path: Path, told: None) -> None:
    """Neither of a model that it refuses nor of one that it cannot read."""
    blob = save(FIT["lstm"]())
    model = tmp_path / f"m {text.replace('/', '|')}.keras"
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    spec = json.loads(parts["config.json"])
    named = json.dumps(spec).replace(json.dumps(spec["config"]["layers"][-1]["config"]["name"]), json.dumps(text))
    unfit = json.loads(named)
    unfit["config"]["layers"][-1]["class_name"] = text
    for config in (named, json.dumps(unfit), json.dumps({"class_name": text, "config": {"layers": text}})):
        with zipfile.ZipFile(model, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, config if name == "config.json" else data)
        assert command("inspect", str(model)) in (0, 2)
    model.write_bytes(text.encode(errors="surrogateescape"))
    assert command("inspect", str(model)) == 2


PRINTS = {
    ("jobs/cli.py", 4): "our version, one sentence, a traceback of ours, and a result as JSON",
    ("jobs/commands/submit.py", 2): "the job's log, and a question of ours",
    ("jobs/terminal/stderr_log.py", 1): "a line of the log",
    ("lstm_core/contract/rule_table.py", 1): "our own rules, for the guide",
}
CONSOLES = {"jobs/cli.py", "jobs/commands/demo.py", "jobs/commands/guide.py", "cluster/runtime/watch/progress.py"}


def calls(path: Path, *names: str) -> int:
    tree = ast.walk(ast.parse(path.read_text()))
    return sum(isinstance(node, ast.Call) and ast.unparse(node.func) in names for node in tree)


def test_all_that_is_printed_goes_through_one_of_few_places() -> None:
    """Whoever adds another has to think of what stands in it."""
    files = [
        (path, str(path.relative_to(ROOT)))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "examples" not in path.parts
    ]
    prints = {(name, calls(path, "print")) for path, name in files if calls(path, "print")}
    assert prints == set(PRINTS)
    assert {name for path, name in files if calls(path, "Console", "DataConsole")} == CONSOLES
    assert [name for path, name in files if calls(path, "Text.from_markup", "Text.from_ansi", "rich.print")] == []
