"""Columns of the input that are called like columns of a run's own files: of quarantine, carry-over, plan and shuffle.

Nothing of the user's is called otherwise, nothing is lost, and where no name is taken the files are as the guides say.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.core.carry import BROKEN, LAST, PREVIOUS, SEEN, STATE
from cluster.core.own_columns import LINE
from cluster.core.plan.shuffle_plan import ORIGIN_FILE, ORIGIN_ROW
from jobs.config.configuration import load_config
from lstm_core.errors import UsageError
from tests.harness.every_road import Night, Spelling, go

QUARANTINE = list(LINE)
CARRY_OVER = [LAST, f"{LAST}__time", SEEN, BROKEN, f"{PREVIOUS}f0", PREVIOUS, f"{STATE}memory__0", STATE]
PLAN = ["entity", "row_start", "row_count", "sorted", "fault", "key__entity", "key__", "count_all", "reason_first"]
SHUFFLE = [ORIGIN_FILE, ORIGIN_ROW]
APART = ["slotcar_file", "slotcar_last_time", "slotcar_slotcar__row", "slotcar_"]
ODD = ["a.b", "list.element", "ünï/…", 'it\'s "q"', "[/]", "a=b", "*", "@length", "tab\tname", "__index_level_0__", "."]
NAMES = [*QUARANTINE, *CARRY_OVER, *PLAN, *SHUFFLE, *APART, *ODD]


def named(spelling: Spelling, name: str) -> Spelling:
    """Where the entity takes the name of the time, that has another."""
    return Spelling(entity=name, order="moment" if name == "time" else "time", kept=spelling.kept)


def first_and_last(nights: list[Night]) -> tuple[list[str], list[str]]:
    """The columns of quarantine and of carry-over."""
    state = next(nights[0].state.glob("*.parquet"))
    return nights[0].quarantine.column_names, pq.read_schema(state).names


@pytest.mark.parametrize("name", NAMES)
def test_an_entity_may_be_called_like_any_column_of_ours(tmp_path: Path, name: str) -> None:
    lines, carried = first_and_last(go(tmp_path, named(Spelling(), name), "mixed" if len(name) % 2 else "turned"))
    assert [lines[0], carried[0]] == [name, name]
    assert lines[1:] == [f"slotcar_{one}" if one == name else one for one in LINE]
    own = [LAST, SEEN, BROKEN, f"{STATE}memory__0", f"{STATE}memory__1"]
    assert carried[1:] == [f"slotcar_{one}" if one == name else one for one in own]


@pytest.mark.parametrize("layout", ["turned", "mixed", "long"])
def test_times_features_and_kept_columns_may_be_called_so_too(tmp_path: Path, layout: str) -> None:
    order, features = "last_time", ("rows", "reason", "slotcar__row")
    kept = {name: pa.array for name in NAMES if name not in (order, *features, "entity")}
    nights = go(tmp_path, Spelling(order=order, features=features, kept=kept), layout)
    lines, carried = first_and_last(nights)
    assert lines == ["entity", *LINE]
    assert carried == ["entity", LAST, SEEN, BROKEN, f"{STATE}memory__0", f"{STATE}memory__1"]
    assert nights[0].scores.column_names == ["entity", order, "row_number", *kept, "score"]


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("input", "entity", ["@length"], "input.entity names the column '@length', and input.features has '@length'"),
        ("output", "keep", ["@length"], "output.keep names the column '@length', and input.features has '@length'"),
        ("output", "names", ["entity"], "output.names has 'entity', but a column of this name is written already"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_with_its_name(section: str, key: str, value: object, said: str) -> None:
    asked = {
        "model": {"path": __file__},
        "input": {"path": "in", "entity": ["entity"], "time": ["time"], "features": ["f0", "@length"]},
        "output": {"path": "out"},
    }
    asked[section][key] = value
    with pytest.raises(UsageError, match=said):
        load_config(asked)
