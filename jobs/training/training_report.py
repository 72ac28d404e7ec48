"""What a training did: the figures of its epochs, and what they were taken from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table

from lstm_core.json_types import JsonObject

REASONS_SHOWN = 8


@dataclass(frozen=True)
class Epoch:
    """One epoch; losses are means over the targets that are known, and metrics are taken from the same rows."""

    epoch: int  # from 1
    loss: float  # of the rows that are trained on, as the weights moved
    validation_loss: float | None  # of the rows that are held out, with the weights at the end of the epoch
    seconds: float
    losses: dict[str, float] = field(default_factory=dict)  # of each output, where train.loss names one for each
    metrics: dict[str, float] = field(default_factory=dict)  # under Keras's names: "mae", "val_mae"

    @property
    def logs(self) -> dict[str, float]:
        """The figures under Keras's names."""
        held = {} if self.validation_loss is None else {"val_loss": self.validation_loss}
        return {"loss": self.loss, **held, **self.losses, **self.metrics}


@dataclass
class TrainReport:
    """What a training did."""

    model: str  # the file that was written
    model_fingerprint: str = ""
    rows_in: int = 0  # = rows_trained_on + rows_validated + rows_skipped + rows_quarantined, where all are read
    rows_trained_on: int = 0  # per epoch, those without a target included
    rows_validated: int = 0  # those that are held out, and what stands before them in a window that holds one
    rows_skipped: int = 0  # outside the input's window, and those that fill no window of the model, if dropped
    rows_quarantined: int = 0
    quarantined_by_reason: dict[str, int] = field(default_factory=dict)  # rows, by why they are in quarantine
    files_lost: int = 0  # that cannot be read; the rows of their entities in other files are in quarantine
    targets_trained_on: int = 0  # per epoch; a target that is null has no loss
    targets_validated: int = 0
    entities: int = 0
    steps: int = 0  # per epoch
    slots: int = 0
    chunk: int = 0
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)

    def as_dict(self) -> JsonObject:
        """The report as plain values, for JSON."""
        return asdict(self)

    def render(self) -> RenderableType:
        """The losses, and what they were taken from, for a terminal."""
        metrics = list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))
        figures = Table("epoch", "loss", "validation loss", *metrics, "seconds")
        for epoch in self.epochs:
            found = [epoch.loss, epoch.validation_loss, *(epoch.metrics.get(name) for name in metrics)]
            texts = ["" if value is None else f"{value:.5g}" for value in found]
            figures.add_row(str(epoch.epoch), *texts, f"{epoch.seconds:.1f}")
        facts = Table(show_header=False, box=None)
        facts.add_row("model", self.model)
        facts.add_row("fingerprint", self.model_fingerprint)
        facts.add_row("rows", f"{self.rows_trained_on:,} trained on, {self.rows_validated:,} held out")
        facts.add_row("left out", f"{self.rows_quarantined:,} rows in quarantine, {self.rows_skipped:,} skipped")
        for reason, rows in self._reasons():
            facts.add_row("", f"{rows:,} rows: {reason}")
        if self.files_lost:
            facts.add_row("", f"the entities of {self.files_lost:,} files that cannot be read")
        facts.add_row("steps per epoch", f"{self.steps:,} of {self.slots:,} slots × {self.chunk:,} timesteps")
        return Group(figures, facts)

    def _reasons(self) -> list[tuple[str, int]]:
        """Why rows are in quarantine, the most frequent first, as many as a terminal shows."""
        found = sorted(self.quarantined_by_reason.items(), key=lambda item: (-item[1], item[0]))
        more = sum(rows for _, rows in found[REASONS_SHOWN:])
        return [*found[:REASONS_SHOWN], *([("other reasons", more)] if more else [])]
