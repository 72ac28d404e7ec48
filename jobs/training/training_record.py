"""What a training leaves beside its model, in MODEL.keras.training: its state, a checkpoint, its figures, a plot.

Decides when an epoch counts: once state.json, written whole or not at all, names the checkpoint behind it. The same
command goes on from there; state of another training, by its identity, is not taken up but written over.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from cluster.run_errors import RunFailed, StoreFault
from cluster.runtime.storage.local_store import LocalStore
from lstm_core.json_types import JsonObject

STATE = "state.json"
WIDTH, HEIGHT, EDGE = 640, 320, 40
COLOURS = ("#1f6feb", "#d9822b", "#2da44e", "#8250df", "#cf222e", "#57606a")


@dataclass(frozen=True)
class Earlier:
    """An earlier session of the same training."""

    report: JsonObject
    checkpoint: bytes
    stopped: bool  # a callback has ended it


def training_folder(model_path: str) -> str:
    """What belongs to the training of a model, as long as it is under way and afterwards."""
    return f"{model_path}.training"


class TrainingRecord:
    """The files of one training."""

    def __init__(self, model_path: str, identity: str) -> None:
        self.folder = training_folder(model_path)
        self._store = LocalStore(self.folder)
        self._identity = identity

    def read(self) -> Earlier | None:
        """Where an earlier session of this training has come to; None where there is none."""
        content = self._store.find(STATE)
        try:
            state = json.loads(content) if content else {}
        except ValueError:
            return None
        if state.get("identity") != self._identity:
            return None
        checkpoint = self._store.find(state["checkpoint"])
        return None if checkpoint is None else Earlier(state["report"], checkpoint, state["stopped"])

    def write(self, report: JsonObject, checkpoint: bytes, *, stopped: bool) -> None:
        """An epoch has ended. Raises `RunFailed`."""
        epochs = report["epochs"]
        name = f"epoch-{len(epochs):04d}.npz"
        state = {"identity": self._identity, "checkpoint": name, "stopped": stopped, "report": report}
        figures = [_figures(epoch) for epoch in epochs]
        try:
            self._store.write(name, checkpoint)
            self._store.write(STATE, json.dumps(state, indent=1).encode())
            self._store.write("epochs.csv", _as_csv(figures))
            self._store.write("epochs.svg", _as_plot(figures).encode())
        except StoreFault as fault:
            why = getattr(fault.__cause__, "strerror", fault)
            raise RunFailed(f"{self.folder} cannot be written: {why}; mend that and train again.") from None
        with suppress(OSError):  # what is left over is small, and written over by the next training
            for old in set(os.listdir(self.folder)) - {name}:
                if old.endswith(".npz"):
                    os.unlink(os.path.join(self.folder, old))


def _figures(epoch: JsonObject) -> dict[str, float | None]:
    names = {"validation_loss": "val_loss"}
    plain = {names.get(key, key): value for key, value in epoch.items() if key not in ("losses", "metrics")}
    return {**plain, **epoch["losses"], **epoch["metrics"]}


def _as_csv(figures: Sequence[dict[str, float | None]]) -> bytes:
    out = io.StringIO()
    names = dict.fromkeys(name for row in figures for name in row)  # metrics may have been added later
    rows = csv.DictWriter(out, list(names), lineterminator="\n")
    rows.writeheader()
    rows.writerows(figures)
    return out.getvalue().encode()


def _as_plot(figures: Sequence[dict[str, float | None]]) -> str:
    """The losses over the epochs as an SVG, and below them each metric by itself, since scales differ."""
    names = dict.fromkeys(name for row in figures for name, value in row.items() if value is not None)
    panels: dict[str, list[str]] = {}
    for name in names:
        if name not in ("epoch", "seconds"):
            panels.setdefault("loss" if name.endswith("loss") else name.removeprefix("val_"), []).append(name)
    height = HEIGHT * len(panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    for place, shown in enumerate(panels.values()):
        lines += [f'<g transform="translate(0 {place * HEIGHT})">', *_panel(figures, shown), "</g>"]
    return "\n".join([*lines, "</svg>", ""])


def _panel(figures: Sequence[dict[str, float | None]], names: Sequence[str]) -> list[str]:
    known = [value for row in figures for name in names if (value := row.get(name)) is not None]
    low, high = min(known), max(known)
    lines = [
        f'<text x="4" y="{EDGE}">{high:.4g}</text><text x="4" y="{HEIGHT - EDGE}">{low:.4g}</text>',
        f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 12}" text-anchor="end">epoch {len(figures)}</text>',
    ]
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        points = [
            f"{_along(place, len(figures)):.1f},{_up(value, low, high):.1f}"
            for place, row in enumerate(figures)
            if (value := row.get(name)) is not None
        ]
        lines.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (p.split(",") for p in points)]
        lines.append(f'<text x="{EDGE + 20}" y="{16 * (index + 1)}" fill="{colour}">{name}</text>')
    return lines


def _along(place: int, count: int) -> float:
    return EDGE + 20 + (WIDTH - 2 * EDGE - 20) * place / max(1, count - 1)


def _up(value: float, low: float, high: float) -> float:
    return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (value - low) / ((high - low) or 1.0)
