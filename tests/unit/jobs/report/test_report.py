"""The report: what it gathers, the story it tells, and that nothing in it comes from outside or runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.core.histogram import Histogram
from cluster.runtime.commit.commit import REPORT
from cluster.runtime.storage.open_store import StoreSpec
from cluster.runtime.watch.report_figures import Lengths, ReportFigures, ScoreColumn, gather_figures
from jobs.commands.report import run, write_at_end
from jobs.report.report_page import page
from jobs.report.report_plots import number, seconds, ticks
from jobs.report.report_story import tell_story
from lstm_core.errors import UsageError
from tests.harness.reporting import Laid, lay_run

EVIL = "<script>alert('1')</script>&\"x"
VOID = {"meta", "link"}  # in SVG what has no content ends by itself


def line(at_s: float, event: str, session: int = 1, **fields: Any) -> dict[str, Any]:
    return {"at_s": at_s, "event": event, "session": session, **fields}


def sample(at_s: float, rows: int, steps: int, busy: int, session: int = 1) -> dict[str, Any]:
    return line(at_s, "sample", session, rows=rows, steps=steps, busy_slots=busy, replicas=1, shards_done=0, stage_s={})


def commit(at_s: float, replica: int, attempt: int = 1) -> dict[str, Any]:
    return line(at_s, "commit", replica=replica, shard=0, attempt=attempt, fragment=0, rows=50, final=True)


DEATH = [
    line(100.0, "session"),
    line(100.0, "start", replica=0),
    line(103.0, "ready", replica=0),
    line(103.0, "assign", replica=0, shard=0, attempt=1),
    sample(103.0, 0, 0, 0),
    sample(105.0, 40, 10, 20),
    line(106.0, "lost", replica=0, cause=EVIL),
    line(106.0, "start", replica=1),
    line(109.0, "ready", replica=1),
    line(109.0, "assign", replica=1, shard=0, attempt=2),
    sample(110.0, 40, 10, 20),
    commit(112.0, 1, attempt=2),
    line(113.0, "end"),
]


class Strict(HTMLParser):
    """Checks that every element is closed where it ought to be, and collects what could load or run anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.active: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.active += [tag for bad in ("script", "iframe", "img", "object", "embed") if tag == bad]
        self.active += [name for name in names if name.startswith("on") or name == "src"]
        self.active += [value or "" for name, value in attrs if name == "href" and value != "data:,"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("path", "rect")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> str:
    """The page's text, once it is known to be whole and to stand alone."""
    parser = Strict()
    parser.feed(html)
    assert parser.open == []
    assert parser.active == []
    assert not re.findall(r"url\(|@import|https?:", html)
    return parser.text


def test_a_report_says_what_ran_and_that_it_adds_up(tmp_path: Path) -> None:
    output = lay_run(tmp_path / "out", Laid(lines=DEATH, record={"attempts": 3, "replica_deaths": 1}))
    made = run(output)
    text = read(Path(output, REPORT).read_text())
    assert made.report == str(tmp_path / "out" / REPORT)
    for said in (
        "night",
        "100 rows came in, and each is counted once",
        "2 shards took 3 attempts; 1 replicas died",
        "No row is in quarantine",
        "m.keras",
        "rows per second of work20",  # 40 rows in the 2 s in which there were any, of 13 s in all
        "clustered, 1 file: ",
        "1.6 times as long",
        "There is no earlier run",
        "at attempt 2",
    ):
        assert said in text


def test_names_and_errors_of_a_run_are_text_and_nothing_else(tmp_path: Path) -> None:
    laid = Laid(
        run_id=EVIL,
        names=(EVIL,),
        lines=DEATH,
        quarantine=[(EVIL, EVIL, 3)],
        record={"status": "failed", "error": EVIL},
    )
    text = read(Path(run(lay_run(tmp_path / "out", laid)).report).read_text())
    assert text.count(EVIL) >= 5


def test_rows_that_are_not_done_are_said(tmp_path: Path) -> None:
    output = lay_run(tmp_path / "out", Laid(record={"status": "failed", "rows_scored": 70}))
    assert "30 of them are not done yet" in read(Path(run(output).report).read_text())


def test_quarantine_is_told_by_reason_the_most_rows_first(tmp_path: Path) -> None:
    laid = Laid(quarantine=[("a", "null", 1), ("b", "late", 5), ("c", "null", 2)])
    found = gather_figures(lay_run(tmp_path / "out", laid)).quarantine
    assert [(one.reason, one.rows, one.entities, one.example) for one in found] == [
        ("late", 5, 1, "b"),
        ("null", 3, 2, "a"),
    ]


def test_scores_are_held_against_the_run_that_was_finished_last_before(tmp_path: Path) -> None:
    lay_run(tmp_path / "20", Laid(finished_at="2026-11-20T03:00:00+00:00"))
    lay_run(tmp_path / "19", Laid(finished_at="2026-11-19T03:00:00+00:00", shift=5.0))
    lay_run(tmp_path / "20b", Laid(finished_at="2026-11-20T04:00:00+00:00", names=("other",)))
    lay_run(tmp_path / "20c", Laid(finished_at="2026-11-20T05:00:00+00:00", record={"status": "failed"}))
    output = lay_run(tmp_path / "21", Laid(shift=0.5))
    lay_run(tmp_path / "22", Laid(finished_at="2026-11-22T03:00:00+00:00"))
    found = gather_figures(output)
    assert found.against == str(tmp_path / "20")
    assert found.scores[0].drift == pytest.approx(0.5, abs=0.03)
    assert gather_figures(output, against=str(tmp_path / "19")).scores[0].drift == pytest.approx(1.0)
    named = read(Path(run(output, str(tmp_path / "19")).report).read_text())
    assert f"the run in {tmp_path / '19'}" in named
    assert "the run before" not in named
    assert "the scores have moved" in read(Path(run(output).report).read_text())


@pytest.mark.parametrize("arguments", [{"output": "none"}, {"output": "out", "against": "none"}])
def test_what_is_no_run_is_refused(tmp_path: Path, arguments: dict[str, str]) -> None:
    lay_run(tmp_path / "out", Laid())
    with pytest.raises(UsageError, match="holds no run of slotcar"):
        run(**{name: str(tmp_path / place) for name, place in arguments.items()})


def test_at_the_end_of_a_run_nothing_that_goes_wrong_counts(tmp_path: Path) -> None:
    output = lay_run(tmp_path / "out", Laid())
    Path(output, "_slotcar/plan/plan.json").write_text("{")
    write_at_end(StoreSpec(output))
    assert not Path(output, REPORT).exists()


def test_the_lengths_of_entities_and_the_longest_ones(tmp_path: Path) -> None:
    lengths = gather_figures(lay_run(tmp_path / "out", Laid(lengths=(50, 30, 20, 1, 1)))).lengths
    assert lengths is not None
    assert [one.rows for one in lengths.longest] == [50, 30, 20, 1, 1]
    assert lengths.bins.sum() == lengths.looked_at == 5
    assert lengths.bins[0] == 2


def test_little_is_read_of_a_large_run_and_evenly(tmp_path: Path) -> None:
    output = lay_run(tmp_path / "out", Laid(lengths=[50] * 40))
    found = gather_figures(output, rows_max=500)
    assert 0 < found.scores_looked_at <= 500
    assert "From 500 of 2,000 rows" in page(found, tell_story((), 4))


# ---- the story


def test_a_lost_attempt_ends_with_its_replica_and_the_next_one_is_done() -> None:
    story = tell_story(DEATH, slots=4)
    first, second = story.lanes
    assert (first.ready_s, first.lost_s, first.cause) == (3.0, 6.0, EVIL)
    assert [(one.attempt, one.begin_s, one.end_s, one.fate) for one in first.attempts] == [(1, 3.0, 6.0, "lost")]
    assert [(one.attempt, one.begin_s, one.end_s, one.fate, one.rows) for one in second.attempts] == [
        (2, 9.0, 12.0, "done", 50)
    ]
    assert story.shard_s() == {0: (3.0, 2)}
    assert story.end_s == 13.0


def test_speed_and_occupancy_are_those_of_each_interval() -> None:
    first, second = tell_story(DEATH, slots=4).intervals
    assert (first.rows_per_s, first.occupancy) == (20.0, 0.5)
    assert (second.rows_per_s, second.occupancy) == (0.0, None)


def test_sessions_stand_one_after_the_other_without_the_pause() -> None:
    later = [{**one, "at_s": one["at_s"] + 9000, "session": 7} for one in DEATH]
    story = tell_story([*DEATH, *later], slots=4)
    assert story.sessions == ((0.0, 13.0), (13.0, 26.0))
    assert [lane.name for lane in story.lanes][::2] == ["session 1, replica 0", "session 2, replica 0"]


def test_a_shard_that_is_given_up_is_marked() -> None:
    lines = [*DEATH[:7], line(106.0, "give_up", shard=0, attempt=1, cause="killed")]
    assert tell_story(lines, slots=4).lanes[0].attempts[0].fate == "given up"


def test_a_session_that_was_cut_off_leaves_its_attempts_open() -> None:
    assert tell_story(DEATH[:6], slots=4).lanes[0].attempts[0].fate == "open"


def test_no_line_no_story(tmp_path: Path) -> None:
    found = gather_figures(lay_run(tmp_path / "out", Laid()))
    assert "before its first sample" in read(page(found, tell_story((), 4)))


def test_a_night_of_a_thousand_shards_on_a_hundred_replicas_is_a_page_of_less_than_3_mb(tmp_path: Path) -> None:
    lines = [line(0.0, "session"), *(line(0.0, "start", replica=number) for number in range(100))]
    for shard in range(10_000):
        begin = 60.0 + shard * 3
        lines.append(line(begin, "assign", replica=shard % 100, shard=shard, attempt=1))
        figures = {"shard": shard, "attempt": 1, "fragment": 0, "rows": 10**6, "final": True}
        lines.append(line(begin + 290, "commit", replica=shard % 100, **figures))
    lines += [sample(float(second * 10), second * 10**6, second * 100, second * 300) for second in range(3000)]
    base = gather_figures(lay_run(tmp_path / "out", Laid()))
    scores = tuple(ScoreColumn(f"score {number}", _normal(), _normal()) for number in range(8))
    lengths = Lengths(np.arange(30), 435, ())
    fields = {**vars(base), "lines": tuple(lines), "scores": scores, "lengths": lengths, "against": "before"}
    html = page(ReportFigures(**fields), tell_story(lines, 4))
    read(html)
    assert len(html.encode()) < 3_000_000


def _normal() -> Histogram:
    made = Histogram.between(-5.0, 5.0)
    made.add(np.random.default_rng(0).normal(size=1000).astype(np.float32))
    return made


# ---- plots


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.3, 0.9, [0.4, 0.6, 0.8]), (-1, 1, [-1, -0.5, 0, 0.5, 1]), (5, 5, [5])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_numbers_and_times_are_short() -> None:
    assert [number(value) for value in (0, 0.25, 9999, 200_000, 1.5e6, 2e9)] == [
        "0",
        "0.25",
        "9999",
        "200k",
        "1.5M",
        "2G",
    ]
    assert [seconds(value) for value in (0, 1.5, 119, 150, 3700)] == ["0 s", "1.5 s", "119 s", "2:30 min", "1:01 h"]


def test_the_figures_are_json(tmp_path: Path) -> None:
    assert json.loads(json.dumps(run(lay_run(tmp_path / "out", Laid())).as_dict()))["status"] == "done"
