"""What a night's date decides: its name, its rows, and whose state it goes on from."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from jobs import api
from jobs.config.configuration import load_config
from jobs.config.night_keys import night_overrides
from lstm_core.errors import UsageError

FIRST = "2026-02-27"


def test_a_night_reads_its_day_and_the_state_of_the_night_before() -> None:
    assert night_overrides("2026-03-01", first=FIRST) == [
        "run_id=nightly-2026-03-01",
        "input.since=2026-03-01",
        "input.until=2026-03-02",
        "output.path=scores/2026-03-01",
        "state.write=state/2026-03-01",
        "state.read=state/2026-02-28",
    ]


def test_the_first_night_has_nobody_before_it() -> None:
    assert not [key for key in night_overrides(date(2026, 2, 27), first=FIRST) if key.startswith("state.read")]


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("2026-02-26", "The night of 2026-02-26 lies before the first one, 2026-02-27"),
        ("yesterday", "A night is named by its day, as in 2026-11-20, not by 'yesterday'"),
        ("2026-02-30", "not by '2026-02-30'"),
    ],
)
def test_a_day_that_is_none_is_told(day: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        night_overrides(day, first=FIRST)


def test_what_the_caller_adds_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"no model")
    document: dict[str, Any] = {
        "model": {"path": "model.keras"},
        "input": {"path": "in", "entity": "entity", "time": "time", "features": ["x"]},
        "output": {"path": "unused"},
    }
    config = load_config(document, [*night_overrides("2026-03-01", first=FIRST), "input.since=2026-02-28"])
    assert (config.input.since, config.input.until) == ("2026-02-28", "2026-03-02")
    assert config.output.path == str(tmp_path / "scores" / "2026-03-01")
    with pytest.raises(UsageError, match=r"model\.keras"):
        api.night(document, "2026-03-01", first=FIRST)
