"""`slotcar inspect`: everything of the contract, as tables and as JSON; refusals pass through."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from jobs import inspect
from lstm_core.errors import ModelRefused, UsageError
from lstm_core.proof import prove
from tests import models
from tests.unfit_models import bidirectional


def run(path: Path) -> inspect.Inspection:
    """As the command does, with the proof in this process."""
    return inspect.run(path, prove=prove)


def written(folder: Path, archive: bytes) -> Path:
    path = folder / "model.keras"
    path.write_bytes(archive)
    return path


def test_inspect_gives_the_contract_as_plain_values(tmp_path: Path) -> None:
    found = json.loads(json.dumps(run(written(tmp_path, models.save(models.two_inputs()))).as_dict()))
    assert found["fit"] is True
    assert [item["name"] for item in found["inputs"]] == ["numeric", "carrier"]
    assert found["outputs"] == [{"name": "score", "values": 1}]
    assert found["score_names"] == ["score"]
    assert found["recurrent"] == [{"name": "memory", "kind": "LSTM", "state_shapes": [[4], [4]], "stateful": False}]
    assert found["state_bytes_per_slot"] == 32
    assert found["flop_per_row"] > 0
    assert len(found["fingerprint"]) == 64


def test_inspect_shows_the_contract_as_tables(tmp_path: Path) -> None:
    inspection = run(written(tmp_path, models.save(models.nested_functional())))
    shown = io.StringIO()
    Console(file=shown, width=120).print(inspection.render())
    for word in (
        "rows",
        "score",
        "inner/memory",
        "second",
        "[4], [4]",
        "FLOP per row",
        inspection.contract.fingerprint,
    ):
        assert word in shown.getvalue()


def test_inspect_refuses_an_unfit_model(tmp_path: Path) -> None:
    path = written(tmp_path, models.save(bidirectional()))
    with pytest.raises(ModelRefused, match="Bidirectional") as refusal:
        run(path)
    assert str(path) in str(refusal.value)


def test_inspect_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read") as fault:
        run(tmp_path / "missing.keras")
    assert fault.value.exit_code == 2
