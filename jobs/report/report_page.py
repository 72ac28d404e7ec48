"""The report as one HTML page: sections, tables and words around the plots.

The page loads nothing, runs nothing and fits both light and dark. Every text that comes from a run, a name, a reason or
an error, is escaped where it is put into the page, and in no other way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cluster.core.histogram import QUANTILES, length_from
from cluster.runtime.watch.report_figures import ReportFigures, ScoreColumn
from jobs.report.report_plots import (
    LANES_MAX,
    Bar,
    Frame,
    Stretch,
    bars_plot,
    lanes_plot,
    number,
    seconds,
    share,
    steps_plot,
    ticks,
)
from jobs.report.report_story import Story
from jobs.report.report_style import STYLE
from jobs.report.report_text import escape
from lstm_core.json_types import JsonObject

BARS = 64
DRIFT_NOTED = 0.1  # from this distance on the page says that scores have moved
STAGES = {
    "plan": "reading keys, making the plan",
    "shuffle": "bringing each entity's rows together",
    "read": "reading and encoding rows",
    "pack": "putting rows into slots",
    "compute": "model steps",
    "write": "writing fragments",
    "commit": "recording and publishing them",
}
STATUS = {
    "done": "done",
    "running": "running, or broken off without a word",
    "failed": "failed, resumable",
    "stopped": "stopped, resumable",
    "quarantine": "too many rows in quarantine",
}


def page(figures: ReportFigures, story: Story) -> str:
    """The whole page."""
    record = figures.record
    sections = [
        _totals(record),
        _speed(story),
        _replicas(story, record),
        _stages(record),
        _lengths(figures),
        _slowest(figures, story),
        *(_score(figures, column) for column in figures.scores),
        _quarantine(figures),
        _asked(figures),
    ]
    title = escape(f"{record['run_id']} · slotcar")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{STYLE}</style></head><body><main>'
        f"{_head(figures, story)}{''.join(sections)}</main></body></html>\n"
    )


def _head(figures: ReportFigures, story: Story) -> str:
    record, work_s = figures.record, figures.record.get("work_s") or 0.0
    status = str(record.get("status"))
    error = f'<p class="error">{escape(str(record["error"]))}</p>' if record.get("error") else ""
    working = [one for one in story.intervals if one.rows]  # what lies before the first row is start-up
    rate = sum(one.rows for one in working) / sum(one.end_s - one.begin_s for one in working) if working else 0.0
    cards = [
        ("rows scored", f"{record['rows_scored']:,}"),
        ("entities", f"{record['entities_scored']:,}"),
        ("rows per second of work", f"{rate:,.0f}" if rate else "–"),
        ("slot occupancy", f"{record['slot_occupancy']:.1%}"),
        ("time of work", seconds(work_s)),
        ("replica deaths", f"{record['replica_deaths']:,}"),
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cards)
    moments = [str(record[name]) for name in ("started_at", "finished_at") if record[name]]
    when = " to ".join(moment.replace("T", " ").replace("+00:00", " UTC") for moment in moments)
    return (
        f'<header><p class="brand">slotcar</p><h1>{escape(str(record["run_id"]))}</h1>'
        f'<p class="sub"><span class="pill {escape(status)}">{escape(STATUS.get(status, status))}</span>'
        f"{escape(when)}</p>{error}</header><dl class='cards'>{shown}</dl>"
    )


def _section(title: str, said: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(said)}</p>{body}</section>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _totals(record: JsonObject) -> str:
    parts = {name: record[f"rows_{name}"] for name in ("scored", "quarantined", "skipped")}
    total, added = record["rows_in"], sum(parts.values())
    names = {"scored": "scored", "quarantined": "in quarantine", "skipped": "skipped"}
    bar = "".join(
        f'<i class="{name}" style="flex:{count}" title="{count:,} rows {names[name]}"></i>'
        for name, count in parts.items()
        if count
    )
    legend = "".join(f'<li><i class="{name}"></i>{names[name]} <b>{count:,}</b></li>' for name, count in parts.items())
    if added == total:
        said = f"{total:,} rows came in, and each is counted once: the three parts add up."
    else:
        said = f"{total:,} rows came in; {total - added:,} of them are not done yet."
    return _section("Every row", said, f'<div class="stack">{bar}</div><ul class="legend">{legend}</ul>')


def _speed(story: Story) -> str:
    if not story.intervals:
        return _section("Over time", "The run was over, or broke off, before its first sample.", "")
    peak = max(one.rows_per_s for one in story.intervals)
    rows = [
        Stretch(one.begin_s, one.end_s, one.rows_per_s, f"{seconds(one.begin_s)}: {one.rows_per_s:,.0f} rows/s")
        for one in story.intervals
    ]
    busy = [
        Stretch(one.begin_s, one.end_s, one.occupancy, f"{seconds(one.begin_s)}: {one.occupancy or 0:.1%} of slots")
        for one in story.intervals
    ]
    plots = (
        "<h3>rows per second</h3>"
        + steps_plot(rows, Frame(story.end_s, peak * 1.08 or 1.0, 170), "rows per second over time", number)
        + "<h3>slot occupancy</h3>"
        + steps_plot(busy, Frame(story.end_s, 1.0, 110), "slot occupancy over time", share)
    )
    said = f"At its best it did {peak:,.0f} rows per second. A gap in the lower plot is time without a step."
    return _section("Over time", _sessions(story) + said, plots)


def _sessions(story: Story) -> str:
    count = len(story.sessions)
    return f"The run took {count} sessions, drawn one after the other without the pauses. " if count > 1 else ""


def _replicas(story: Story, record: JsonObject) -> str:
    if not story.lanes:
        return ""
    more = len(story.lanes) - LANES_MAX
    said = (
        f"{record['shards']:,} shards took {record['attempts']:,} attempts; {record['replica_deaths']:,} replicas "
        "died. A pale stretch is a replica that loads its model, a block is one shard."
    )
    said += f" {more:,} further replicas are not drawn." if more > 0 else ""
    kinds = {"done": "done", "again": "done at a later attempt", "lost": "lost", "given-up": "given up", "open": "open"}
    legend = "".join(f'<li><i class="{kind}"></i>{text}</li>' for kind, text in kinds.items())
    return _section(
        "Replicas and shards", said, lanes_plot(story.lanes, story.end_s) + f'<ul class="legend">{legend}</ul>'
    )


def _stages(record: JsonObject) -> str:
    spent: dict[str, float] = record["stage_s"]
    total, most = sum(spent.values()), max(spent.values()) or 1.0
    rows = "".join(
        f'<tr><th>{name}</th><td class="wide"><i class="meter" style="width:{100 * value / most:.1f}%"></i></td>'
        f"<td>{seconds(value)}</td><td>{value / total if total else 0:.0%}</td><td>{STAGES[name]}</td></tr>"
        for name, value in spent.items()
        if name in STAGES
    )
    said = "Busy seconds of every stage, summed over replicas. Stages run beside each other, so this is no wall time."
    return _section("Where the time went", said, f'<div class="scroll"><table class="stages">{rows}</table></div>')


def _lengths(figures: ReportFigures) -> str:
    lengths = figures.lengths
    if lengths is None or not lengths.looked_at:
        return ""
    counts = lengths.bins.tolist()
    first = next(index for index, count in enumerate(counts) if count)
    bars = [
        Bar(
            index,
            index + 1,
            count,
            f"{length_from(index):,} to {length_from(index + 1) - 1:,} rows: {count:,} entities",
        )
        for index, count in enumerate(counts)
        if index >= first
    ]
    every = 5 if len(bars) > 12 else 1
    labels = [(bar.low, number(length_from(int(bar.low)))) for bar in bars if bar.low % every == 0]
    part = (
        "" if lengths.looked_at == figures.record["entities_in"] else f", of {lengths.looked_at:,} that were looked at"
    )
    said = f"Rows per entity, each bar 1.6 times as long as the one before{part}. Upright: entities."
    return _section("How long the entities are", said, bars_plot(bars, (), "entities by their rows", labels))


def _slowest(figures: ReportFigures, story: Story) -> str:
    lengths, record = figures.lengths, figures.record
    if lengths is None or not lengths.longest:
        return ""
    taken, chunk = story.shard_s(), record["chunk"]
    rows = []
    for one in lengths.longest:
        spent = _spent(*taken[one.shard]) if one.shard in taken else "–"
        rows.append((one.key, f"{one.rows:,}", f"{-(-one.rows // chunk):,}", f"{one.shard:,}", spent))
    said = "An entity cannot be divided, so the longest one sets the least number of steps of the whole run."
    head = ("entity", "rows", "steps", "shard", "its shard took")
    return _section("The slowest entities", said, _table(head, rows))


def _spent(span_s: float, attempts: int) -> str:
    return seconds(span_s) if attempts == 1 else f"{seconds(span_s)}, at attempt {attempts}"


def _score(figures: ReportFigures, column: ScoreColumn) -> str:
    now, before = column.now, column.before
    low = min(one.quantile(0.001) for one in (now, before) if one is not None and one.total) if now.total else now.low
    high = max(one.quantile(0.999) for one in (now, before) if one is not None and one.total) if now.total else now.high
    low, high = (low, high) if high > low else (now.low, now.high)
    edges = np.linspace(low, high, BARS + 1)
    shares = now.shares(low, high, BARS)
    bars = [
        Bar(a, b, value, f"{number(a)} to {number(b)}: {value:.2%}")
        for a, b, value in zip(edges[:-1].tolist(), edges[1:].tolist(), shares.tolist(), strict=True)
    ]
    outline = before.shares(low, high, BARS).tolist() if before is not None and before.total else ()
    labels = [(value, number(value)) for value in ticks(low, high, 8)]
    table = _table(("", "mean", *(f"{part:.0%}" for part in QUANTILES), "not a number"), _summaries(figures, column))
    plot = bars_plot(bars, outline, f"distribution of {column.name}", labels)
    return _section(f"Scores: {column.name}", _drift(figures, column), plot + table)


def _drift(figures: ReportFigures, column: ScoreColumn) -> str:
    looked, scored = figures.scores_looked_at, figures.record["rows_scored"]
    part = "" if looked == scored else f"From {looked:,} of {scored:,} rows. "
    if column.drift is None or figures.against is None:
        return f"{part}Share of rows per bar. {_why_alone(figures)}"
    verdict = "the scores have moved" if column.drift >= DRIFT_NOTED else "much the same"
    return (
        f"{part}Share of rows per bar; the outline is the run in {figures.against}. The largest gap between the two "
        f"cumulated shares is {column.drift:.3f}: {verdict}."
    )


def _why_alone(figures: ReportFigures) -> str:
    if figures.against_fault is None:
        return "There is no earlier run to compare with."
    return f"It is held against no other run: {figures.against_fault.rstrip('.')}."


def _summaries(figures: ReportFigures, column: ScoreColumn) -> list[list[str]]:
    rows = []
    for name, one in (("this run", column.now), (f"the run in {figures.against}", column.before)):
        if one is not None:
            values = [one.mean, *(one.quantile(part) for part in QUANTILES)]
            rows.append([name, *(f"{value:.4g}" for value in values), f"{one.not_finite:,}"])
    return rows


def _quarantine(figures: ReportFigures) -> str:
    lost = figures.record.get("files_lost", 0)
    if not figures.quarantine:
        return _section("Quarantine", "No row is in quarantine.", "")
    rows = [(one.reason, f"{one.rows:,}", f"{one.entities:,}", one.example) for one in figures.quarantine]
    total = figures.record["rows_quarantined"]
    share_of = total / figures.record["rows_in"] if figures.record["rows_in"] else 0.0
    said = f"{total:,} rows, {share_of:.2%} of the input, were not scored. Their files and rows are in _quarantine."
    if lost:
        said += f" {lost:,} files could not be read, and nobody has counted the rows in them."
    return _section("Quarantine", said, _table(("reason", "rows", "entries", "for example"), rows))


def _asked(figures: ReportFigures) -> str:
    record, request, head = figures.record, figures.request, figures.head
    facts: list[tuple[str, str]] = [("model", record["model_fingerprint"])]
    if request is not None:
        facts.insert(0, ("model file", request.model_path or "none"))
        facts += [("input", ", ".join(request.input.path)), ("output", figures.output)]
        facts += [("entity", ", ".join(request.input.entity)), ("time", ", ".join(request.input.time))]
        window = [f"{name} {value}" for name in ("since", "until") if (value := getattr(request.input, name))]
        facts += [("rows", " ".join(window) or "all")]
    if head is not None:
        count = len(head.input_files)
        facts += [("layout", f"{head.layout}, {count:,} {'file' if count == 1 else 'files'}: {head.reason}")]
        facts += [("order", f"{head.entities_unsorted:,} entities were sorted, {head.ties:,} rows have equal times")]
    facts += [("step", f"{record['slots']:,} slots × {record['chunk']:,} timesteps, {record['steps']:,} steps")]
    facts += [("replicas", f"{record['replicas']:,}"), ("fragments", f"{record['fragments']:,}")]
    facts += [("versions", ", ".join(f"{name} {value}" for name, value in record["versions"].items()))]
    return _section("What ran, on what", "As the run's own records say.", _table(("", ""), facts))
