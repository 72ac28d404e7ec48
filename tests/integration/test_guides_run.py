"""What the README and the guides tell a reader to type: every block is followed, in order, in a fresh folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.guides.blocks import inline_code
from tests.guides.guide_folder import prepare
from tests.guides.guide_reader import ROOT, Reader, jobs_in_this_process

README = ROOT / "README.md"
GUIDES = sorted((ROOT / "jobs" / "guides").glob("*.md"))

WITH_QUARANTINE = """
```sh
slotcar score delays.toml --set input.fill.dep_delay=previous --set faults.quarantine_limit=1 \
  --set output.path=scores/previous --set state.write=state/previous
```
"""


@pytest.fixture(scope="module", autouse=True)
def here() -> Iterator[None]:
    with jobs_in_this_process():
        yield


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_a_guide_may_be_followed_from_its_first_block_to_its_last(path: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    Reader(tmp_path).follow(path.read_text(encoding="utf-8"), path.name)


def test_every_column_and_every_figure_that_a_run_writes_is_named_in_a_guide(tmp_path: Path) -> None:
    prepare(tmp_path)
    guide = ROOT / "jobs" / "guides" / "output.md"
    Reader(tmp_path).follow(guide.read_text(encoding="utf-8") + WITH_QUARANTINE, guide.name)
    files = [path for path in tmp_path.glob("*/**/*.parquet") if "_slotcar" not in path.parts]
    tables = {path.parent.name: pq.read_schema(path).names for path in files}
    assert {"2026-11-21", "_quarantine", "windows", "previous"} <= tables.keys()
    records = [json.loads(path.read_text()) for path in tmp_path.glob("scores/*/_slotcar/run.json")]
    assert len(records) == 3
    figures = {name for record in records for name in (*record, *record["stage_s"])}
    input_columns = {"tailnum", "time_hour", "flight", "carrier_code", "arr_delay", "dep_delay", "distance"}
    columns = {name for names in tables.values() for name in names} - input_columns
    code = {code for path in GUIDES for code in inline_code(path.read_text(encoding="utf-8"))}
    families = [name.partition("__")[0] + "__" if "__" in name else name for name in columns]
    assert [name for name in {*families, *figures} if not any(word.startswith(name) for word in code)] == []


@pytest.mark.ray
def test_the_readme_may_be_followed_as_a_user_would(tmp_path: Path) -> None:
    prepare(tmp_path)
    reader = Reader(tmp_path, as_processes=True)
    reader.follow(README.read_text(encoding="utf-8"), README.name)
    assert [command for command in reader.commands if command.startswith("slotcar score ")]
