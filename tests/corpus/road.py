"""The road of every entry: plan, score, quarantine, report, verify, and the same on the next night.

Commands are the program's own, in a process that is watched, since a fault of reading may end it or make it wait. What
they leave is read by DuckDB and by pyarrow, and compared with the truth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lstm_core.exit_codes import EXIT_DONE, EXIT_FAILED
from tests.corpus.entry import Entry, Night, connection, texts_of, values_by_row
from tests.corpus.truth import Expected, expected
from tests.harness.watched import Watched

TOLERANCE = 1e-5
RESUMES = "same command resumes"
ANSWER_S = 30


@dataclass(frozen=True)
class Said:
    """What a command has answered."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """Its last line on stderr, where it ended badly."""
        return next((line for line in reversed(self.err.splitlines()) if line.startswith("slotcar: ")), "")


class Road:
    """An entry on its way, in a folder of its own."""

    def __init__(self, entry: Entry, folder: Path, order: str, program: Watched) -> None:
        self.entry, self.folder, self._mixed, self._program = entry, folder, order == "mixed", program
        self._before: Expected | None = None
        (folder / "m.keras").write_bytes(program.ask("saved", entry.codes))

    def go(self) -> None:
        """Every night of it; each assertion names what does not hold."""
        for number in range(1, self.entry.nights + 1):
            self._write(number)
            said = self._say("plan", self._config(number), "--json")
            if self._is_refused(said):
                return
            plan = json.loads(said.out)
            facts = () if self.entry.refused else self.entry.read(self.folder / f"in{number}")
            wanted = expected(facts, self.entry, partial(self._program.ask, "scores", self.entry.codes), self._before)
            rows = len(facts)
            if not (self.entry.refused or self.entry.damaged):
                assert plan["rows_in"] == rows, f"plan counts {plan['rows_in']} rows, another reader {rows}"
            said = self._score(number)
            if self._is_refused(said):
                return
            assert self.entry.refused is None, "it was scored, but it must be refused"
            self._check_run(number, rows, wanted)
            self._check_scores(number, wanted)
            self._check_kept(number)
            self._check_quarantine(number)
            self._check_reports(number)
            self._before = wanted
            if number < self.entry.nights and self.entry.between is not None:
                self.entry.between(self.folder / f"out{number}")

    def _say(self, *arguments: str | Path) -> Said:
        """One command; a traceback, a dead process and one that hangs are raised here."""
        return Said(*self._program.ask("say", *map(str, arguments)))

    def _write(self, number: int) -> None:
        place = self.folder / f"in{number}"
        place.mkdir()
        self.entry.write(place, Night(number, self._mixed))

    def _score(self, number: int) -> Said:
        said = self._say("score", self._config(number))
        if said.code == EXIT_FAILED and RESUMES in said.sentence:
            again = self._say("score", self._config(number))
            assert again.code == EXIT_DONE, f"it says that the same command resumes it, and does not: {said.sentence}"
            return again
        return said

    def _is_refused(self, said: Said) -> bool:
        """Whether an entry that may be is refused, as it should be: in one sentence that says what it must."""
        refusal = self.entry.refused or self.entry.or_refused
        if said.code == EXIT_DONE:
            return False
        assert refusal is not None, f"code {said.code}: {said.sentence or said.err[-500:]}"
        assert said.code in refusal.codes, f"code {said.code}, expected {refusal.codes}: {said.sentence}"
        assert re.search(refusal.says, said.sentence), f"{said.sentence!r} does not say {refusal.says!r}"
        assert said.sentence.endswith("."), said.sentence
        return True

    # ---- what a run has left

    def _check_run(self, number: int, rows: int, wanted: Expected) -> None:
        run = json.loads((self.folder / f"out{number}" / "_slotcar/run.json").read_text(encoding="utf-8"))
        counted = {name: run[f"rows_{name}"] for name in ("in", "scored", "quarantined", "skipped")}
        if self.entry.damaged:
            assert counted["in"] in (rows, counted["scored"] + counted["quarantined"]), f"{counted} of {rows} rows"
            assert counted["scored"] >= self.entry.at_least, f"{counted}, though more rows are whole"
            return
        assert counted == {"in": rows, "scored": len(wanted.scores), "quarantined": wanted.quarantined, "skipped": 0}

    def _check_scores(self, number: int, wanted: Expected) -> None:
        found: dict[int, float] = {}
        entity: dict[int, str] = {}
        for path in sorted((self.folder / f"out{number}").glob("*.parquet")):
            rows = connection().execute(f"SELECT n, score FROM read_parquet('{path}')").fetchall()
            assert not {n for n, _ in rows} & found.keys(), "a row has two scores"
            found |= dict(rows)
            keys = pq.ParquetFile(path).read(self._key())
            names = zip(*(texts_of(column) for column in keys.columns), strict=True)
            entity |= dict(zip((n for n, _ in rows), map(str, names), strict=True))
        if not self.entry.damaged:
            assert found.keys() == wanted.scores.keys()
        assert found.keys() <= wanted.scores.keys(), "rows are scored that nobody else finds"
        worst = max((abs(found[n] - wanted.scores[n]) for n in found), default=0.0)
        assert worst <= TOLERANCE, f"scores are off by {worst}"
        in_order = list(found)  # of one entity, in consecutive fragments
        scored = [[n for n in rows if n in found] for rows in wanted.order]
        for rows, all_rows in zip(scored, wanted.order, strict=True):
            assert rows == all_rows[: len(rows)], f"of rows {all_rows} only {rows} are scored"
            assert sorted(rows, key=in_order.index) == rows, f"rows {rows} stand in another order"
        named = [{entity[n] for n in rows} for rows in scored if rows]
        assert all(len(name) == 1 for name in named), f"one entity has several names: {named}"
        assert len(set.union(set(), *named)) == len(named), f"several entities have one name: {named}"

    def _key(self) -> list[str]:
        return list(self.entry.config.get("input.entity", ["sensor"]))

    def _check_kept(self, number: int) -> None:
        """Kept columns are the input's, row by row."""
        names = self.entry.config.get("output.keep", ())
        if not names:
            return
        wanted = self.entry.kept(self.folder / f"in{number}", names)
        for path in sorted((self.folder / f"out{number}").glob("*.parquet")):
            found = values_by_row(pq.ParquetFile(path).read(), names)
            assert {n: wanted[n] for n in found} == found

    def _check_quarantine(self, number: int) -> None:
        place = self.folder / f"out{number}"
        run = json.loads((place / "_slotcar/run.json").read_text(encoding="utf-8"))
        rows = 0
        for path in sorted((place / "_quarantine").glob("*.parquet")):
            table = pq.ParquetFile(path).read()
            reason, many = (f"slotcar_{name}" if name in self._key() else name for name in ("reason", "rows"))
            assert None not in table.column(reason).to_pylist()
            told = connection().execute(f"SELECT sum({many}) FROM read_parquet('{path}')").fetchone()
            rows += int(np.sum(table.column(many).to_numpy()))
            assert int(told[0]) == int(np.sum(table.column(many).to_numpy()))
        assert rows == run["rows_quarantined"]

    def _check_reports(self, number: int) -> None:
        output, state = self.folder / f"out{number}", self.folder / f"state{number}"
        shown = ""
        for arguments in (
            ("plan", self._config(number)),
            ("status", output),
            ("report", output),
            ("verify", output, "--rescore", "9"),
            ("state", "show", state),
            *(("state", "show", state, "--entity", name) for name in self.entry.shown),
        ):
            said = self._say(*arguments)
            assert said.code == EXIT_DONE, f"{arguments[0]} ends with {said.code}: {said.sentence}"
            shown += said.out
        assert (output / "_slotcar/report.html").stat().st_size > 1000
        control = [letter for letter in shown if ord(letter) < 32 and letter not in "\n\t"]
        assert not control, f"control characters are sent to the terminal: {control[:5]}"
        flat = re.sub(r"[\s│┃]+", "", shown)
        assert [text for text in self.entry.shown if re.sub(r"\s+", "", text) not in flat] == []

    # ---- what is asked for

    def _config(self, number: int) -> Path:
        keys: dict[str, Any] = {
            "model.path": "m.keras",
            "model.slots": 8,
            "model.chunk": 4,
            "input.path": f"in{number}/{self.entry.path}".rstrip("/"),
            "input.entity": ["sensor"],
            "input.time": ["t"],
            "input.features": {"a": ["a"], "b": ["b"]},
            "output.path": f"out{number}",
            "output.keep": ["n"],
            "state.write": f"state{number}",
            "cluster.replicas": 1,
            "faults.quarantine_limit": 1.0,
        }
        keys |= {"state.read": f"state{number - 1}"} if number > 1 else {}
        keys |= {name: value for name, value in self.entry.config.items() if name != "output.keep"}
        keys["output.keep"] = ["n", *self.entry.config.get("output.keep", ())]
        path = self.folder / f"night{number}.toml"
        path.write_text(toml(keys), encoding="utf-8")
        return path


def program() -> Watched:
    """The process that runs the commands: it has no pandas, like a replica's."""
    return Watched("tests.corpus.commands:answer", ANSWER_S, without=["pandas"])


def toml(keys: dict[str, Any]) -> str:
    """Keys as `section.key`, as a document."""
    sections: dict[str, list[str]] = {}
    for name, value in keys.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, []).append(f"{key} = {_value(value)}")
    return "\n".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def roads(entries: Sequence[Entry], *, seldom: bool = False) -> list[tuple[Entry, str]]:
    """Each entry in one of its orders, by turns, or in those that are seldom tried: all together take long."""
    found = []
    for number, entry in enumerate(entries):
        often = [order for order in entry.orders if order not in entry.seldom]
        tried = often[number % len(often)] if often else None
        found += [(entry, order) for order in entry.orders if (order != tried) == seldom]
    return found


def walks(entries: Sequence[Entry], *, seldom: bool = False) -> list[object]:
    """The roads as a test's parameters, by name."""
    return [pytest.param(*road, id=f"{road[0].name}, {road[1]}") for road in roads(entries, seldom=seldom)]
