"""Plots as inline SVG: no library, no script, nothing that is loaded from elsewhere.

What it decides: scales, ticks and shapes. Colours are classes, which the page's style sheet fills in for light and for
dark; the exact figures are in each shape's title, which browsers show under the pointer. Whatever is text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobs.report.report_story import Lane
from jobs.report.report_text import escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 960, 64, 12, 10, 26
LANE, LANES_MAX, SHAPES_MAX = 22, 80, 4000
POINTS_MAX = 480  # of a line: half a point per pixel


@dataclass(frozen=True)
class Frame:
    """The part of a picture that data is drawn in."""

    x_max: float
    y_max: float
    height: float  # of the plot without its axis
    x_min: float = 0.0
    left: float = LEFT

    def x(self, value: float) -> float:
        """Where a value stands from the left."""
        span = self.x_max - self.x_min or 1.0
        return round(self.left + (value - self.x_min) / span * (WIDTH - self.left - RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value stands from above."""
        return round(TOP + self.height * (1 - value / (self.y_max or 1.0)), 1)

    @property
    def bottom(self) -> float:
        """Where the data ends."""
        return TOP + self.height


def picture(frame: Frame, label: str, body: str) -> str:
    """The whole SVG element."""
    size = f'viewBox="0 0 {WIDTH} {frame.bottom + BOTTOM:g}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{body}</svg>'


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values between two, about as many as wanted."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A value as short as an axis wants it."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.4g}"


def seconds(value: float) -> str:
    """A time since the start."""
    whole = round(value)
    if whole < 120:
        return f"{value:.3g} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02} h" if hours else f"{minutes}:{whole % 60:02} min"


def share(value: float) -> str:
    """A share of one, whole."""
    return f"{value:.0%}"


def percent(value: float) -> str:
    """A small share of one."""
    return f"{100 * value:.3g}%"


def levels(frame: Frame, label: Callable[[float], str]) -> str:
    """Grid lines with what they stand for."""
    parts = []
    for value in ticks(0, frame.y_max, 4):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{frame.left} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{frame.left - 8}" y="{y + 4}" text-anchor="end">{escape(label(value))}</text>')
    return "".join(parts)


def floor(frame: Frame, labels: Sequence[tuple[float, str]]) -> str:
    """The axis below, with its marks."""
    parts = [f'<path class="axis" d="M{frame.left} {frame.bottom}H{WIDTH - RIGHT}"/>']
    for value, text in labels:
        x = frame.x(value)
        parts.append(f'<path class="tick" d="M{x} {frame.bottom}v5"/>')
        parts.append(f'<text x="{x}" y="{frame.bottom + 19}" text-anchor="middle">{escape(text)}</text>')
    return "".join(parts)


def times(frame: Frame) -> str:
    """The axis below, of seconds."""
    return floor(frame, [(value, seconds(value)) for value in ticks(frame.x_min, frame.x_max, 8)])


@dataclass(frozen=True)
class Stretch:
    """A value that holds for a while; None where there is none."""

    begin: float
    end: float
    value: float | None
    title: str


def steps_plot(stretches: Sequence[Stretch], frame: Frame, label: str, y_label: Callable[[float], str]) -> str:
    """Values over time, as a filled line of steps, with a column under the pointer."""
    area, line, hover = [], [], []
    for run in _runs(_thinned(stretches)):
        points = "".join(f"L{frame.x(one.begin)} {frame.y(one.value or 0)}H{frame.x(one.end)}" for one in run)
        start = f"M{frame.x(run[0].begin)} "
        line.append(f"{start}{frame.y(run[0].value or 0)}{points}")
        area.append(f"{start}{frame.bottom}{points}V{frame.bottom}Z")
        for one in run:
            width = max(frame.x(one.end) - frame.x(one.begin), 1)
            hover.append(
                f'<rect class="hover" x="{frame.x(one.begin)}" y="{TOP}" width="{width:.1f}" height="{frame.height}">'
                f"<title>{escape(one.title)}</title></rect>"
            )
    shapes = f'<path class="area" d="{"".join(area)}"/><path class="line" d="{"".join(line)}"/>{"".join(hover)}'
    return picture(frame, label, levels(frame, y_label) + times(frame) + shapes)


def _thinned(stretches: Sequence[Stretch]) -> list[Stretch]:
    """At most POINTS_MAX of them: the mean of neighbours, weighted by how long each holds."""
    size = -(-len(stretches) // POINTS_MAX)
    groups = [stretches[start : start + size] for start in range(0, len(stretches), max(size, 1))]
    return [group[0] if len(group) == 1 else _mean(group) for group in groups]


def _mean(group: Sequence[Stretch]) -> Stretch:
    known = [(one.value, one.end - one.begin) for one in group if one.value is not None]
    held = sum(span for _, span in known)
    value = sum(value * span for value, span in known) / held if held else None
    return Stretch(group[0].begin, group[-1].end, value, f"{group[0].title} to {group[-1].title}")


def _runs(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Neighbours that have values, without the gaps between."""
    runs: list[list[Stretch]] = []
    for one in stretches:
        if one.value is None:
            continue
        if runs and abs(runs[-1][-1].end - one.begin) < 1e-6:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs


def lanes_plot(lanes: Sequence[Lane], end_s: float) -> str:
    """What each replica did when: its start, its attempts, its death."""
    shown = sorted(lanes[:LANES_MAX], key=lambda lane: lane.start_s)
    frame = Frame(end_s, 1.0, LANE * len(shown), left=132)
    budget = SHAPES_MAX // max(len(shown), 1)
    rows = "".join(_lane(lane, TOP + LANE * index, frame, budget) for index, lane in enumerate(shown))
    return picture(frame, "what each replica did over time", times(frame) + rows)


def _lane(lane: Lane, y: float, frame: Frame, budget: int) -> str:
    end_s = lane.lost_s if lane.lost_s is not None else frame.x_max
    ready_s = lane.ready_s if lane.ready_s is not None else end_s
    parts = [
        f'<text x="{frame.left - 8}" y="{y + 15}" text-anchor="end">{escape(lane.name)}</text>',
        _box("loading", (lane.start_s, ready_s), y, frame, f"{lane.name} starts: {seconds(ready_s - lane.start_s)}"),
    ]
    # Attempts of one replica overlap, since the next shards are handed to it while it steps: each begins, as drawn,
    # where the one before ended.
    free_s = ready_s
    for attempt in sorted(lane.attempts, key=lambda one: (one.end_s, one.begin_s))[-budget:]:
        kind = attempt.fate.replace(" ", "-") if attempt.fate != "done" or attempt.attempt == 1 else "again"
        begin_s = min(max(attempt.begin_s, free_s), attempt.end_s)
        title = (
            f"shard {attempt.shard}, attempt {attempt.attempt}, {attempt.fate}: {attempt.rows:,} rows, "
            f"{seconds(attempt.begin_s)} to {seconds(attempt.end_s)}"
        )
        parts.append(_box(kind, (begin_s, attempt.end_s), y, frame, title))
        free_s = attempt.end_s
    if lane.lost_s is not None:
        x = frame.x(lane.lost_s)
        cross = f"M{x - 5} {y + 6}l10 10m0 -10l-10 10"
        parts.append(
            f'<path class="cross" d="{cross}"><title>{escape(f"{lane.name} is lost: {lane.cause}")}</title></path>'
        )
    return "".join(parts)


def _box(kind: str, span: tuple[float, float], y: float, frame: Frame, title: str) -> str:
    x, width = frame.x(span[0]), max(frame.x(span[1]) - frame.x(span[0]) - 0.8, 0.8)
    return (
        f'<rect class="{kind}" x="{x}" y="{y + 4}" width="{width:.1f}" height="{LANE - 8}" rx="2">'
        f"<title>{escape(title)}</title></rect>"
    )


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram."""

    low: float
    high: float
    value: float
    title: str


def bars_plot(bars: Sequence[Bar], before: Sequence[float], label: str, labels: Sequence[tuple[float, str]]) -> str:
    """A histogram; over it, where there is one, the outline of an earlier one. `labels` stand below the axis."""
    y_max = max([bar.value for bar in bars] + list(before), default=1.0) * 1.05
    frame = Frame(bars[-1].high, y_max, 180, x_min=bars[0].low)
    parts = [levels(frame, number if frame.y_max > 1.05 else percent)]
    for bar in bars:
        x, width = frame.x(bar.low), max(frame.x(bar.high) - frame.x(bar.low) - 1, 0.5)
        height = round(frame.bottom - frame.y(bar.value), 1)
        parts.append(
            f'<rect class="bar" x="{x}" y="{frame.y(bar.value)}" width="{width:.1f}" height="{height}">'
            f"<title>{escape(bar.title)}</title></rect>"
        )
    if len(before):
        outline = "".join(f"V{frame.y(value)}H{frame.x(bar.high)}" for bar, value in zip(bars, before, strict=True))
        parts.append(f'<path class="before" d="M{frame.x(bars[0].low)} {frame.bottom}{outline}V{frame.bottom}"/>')
    return picture(frame, label, "".join(parts) + floor(frame, labels))
