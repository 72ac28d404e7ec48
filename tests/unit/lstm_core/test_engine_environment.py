"""What a user has set for Keras in his own scripts reaches no process of ours: backend, float type, image format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.config.model_proof import prove_in_subprocess
from lstm_core.contract.model_contract import read_contract
from lstm_core.proof.proof_request import ProofRequest
from tests.models.keras_models import FIT, save
from tests.paths import ROOT

BEGIN = """
import sys
from pathlib import Path
from types import SimpleNamespace as Fields
from cluster.core.settings import StepSettings
from lstm_core.contract.model_contract import read_contract
blob = Path(sys.argv[1]).read_bytes()
contract = read_contract(blob, name="it")
"""
ROADS = {  # of a process of ours to Keras
    "replica": """
from cluster.runtime.replica.replica_actor import _load
_load(Fields(threads=1, gpu=False, contract=contract, step=StepSettings(2, 4)), blob)
""",
    "audit": """
from cluster.runtime.audit.rescore_actor import AuditActor
AuditActor._load(Fields(_reference=None, _model=blob, _spec=Fields(contract=contract)))
""",
    "training": """
from cluster.runtime.training.training_actor import TrainingActor
actor = TrainingActor()
actor.prepare(threads=1, gpu=False)
actor.load(blob, contract.code, 0)
""",
    "export": """
from jobs.commands import export
from jobs.config.configuration import load_config
export.run(load_config(sys.argv[2]))
""",
}
SAY = """
import keras
set = keras.config
print(keras.backend.backend(), set.floatx(), set.image_data_format(), set.epsilon(), set.dtype_policy().name)
"""
OWN = {"backend": "jax", "floatx": "float16", "epsilon": 1e-3, "image_data_format": "channels_first"}
CONFIG = """
[model]
path = "model.keras"
[input]
path = "in"
entity = ["entity"]
time = ["time"]
features = ["f0", "f1", "f2"]
[output]
path = "out"
"""


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with his keras.json, a model and a configuration; processes that are started see it."""
    (tmp_path / "keras.json").write_text(json.dumps(OWN))
    (tmp_path / "model.keras").write_bytes(save(FIT["lstm"]()))
    (tmp_path / "job.toml").write_text(CONFIG)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return tmp_path


@pytest.mark.parametrize("road", sorted(ROADS))
def test_a_process_computes_with_tensorflow_in_float32_whatever_the_user_has_set(road: str, own_settings: Path) -> None:
    command = [sys.executable, "-c", BEGIN + ROADS[road] + SAY, own_settings / "model.keras", own_settings / "job.toml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.strip().splitlines()[-1] == "tensorflow float32 channels_last 1e-07 float32"


def test_a_model_is_proved_with_tensorflow_whatever_the_user_has_set(own_settings: Path) -> None:
    blob = (own_settings / "model.keras").read_bytes()
    contract = read_contract(blob, name="it")
    assert prove_in_subprocess(ProofRequest(blob, contract, "it", 4)) == contract
