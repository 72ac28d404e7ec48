"""A night of a daily run: what its date alone decides, so that a scheduler has nothing to remember.

What it decides: the names. A night is called by its day; it reads that day's rows and the state that the night before
has left, and leaves its own. Nothing is looked for: where the night before is not finished, its state is refused by the
run itself. The first night has nobody before it, and begins from zero state or from the configuration's state.read.
"""

from __future__ import annotations

from datetime import date, timedelta

from lstm_core.errors import UsageError

DAY = timedelta(days=1)


def night_overrides(day: str | date, *, first: str | date) -> list[str]:
    """The keys of the night of `day`, as `--set` takes them; `first` is the day of the first night.

    Raises UsageError where a day is none, or lies before the first one.
    """
    today, began = _day(day), _day(first)
    if today < began:
        raise UsageError(
            f"The night of {today} lies before the first one, {began}: begin there, or set an earlier first."
        )
    keys = [
        f"run_id=nightly-{today}",
        f"input.since={today}",
        f"input.until={today + DAY}",
        f"output.path=scores/{today}",
        f"state.write=state/{today}",
    ]
    return keys if today == began else [*keys, f"state.read=state/{today - DAY}"]


def _day(text: str | date) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise UsageError(f"A night is named by its day, as in 2026-11-20, not by {text!r}.") from None
