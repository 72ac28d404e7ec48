"""The contract of a configuration's model, whole: what the archive shows, and what is proved of a user's own code.

The archive tells all that a run must know of Keras's own layers, without Keras. A model with custom code is loaded and
proved in a process of its own, so that the one that plans imports neither TensorFlow nor the user's modules, and so
that a model that is unfit is refused before a replica starts.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable

from jobs.config.configuration import Config
from lstm_core.contract.model_contract import ModelContract, read_contract
from lstm_core.engine_environment import BACKEND
from lstm_core.errors import ModelRefused, SlotcarError
from lstm_core.own_process import command_of, without_home
from lstm_core.proof.proof_request import ProofRequest

Prove = Callable[[ProofRequest], ModelContract]


def prove_in_subprocess(request: ProofRequest) -> ModelContract:
    """Proves a model in a process of its own. Raises `ModelRefused`, `UsageError`."""
    environment = {
        **os.environ,
        **BACKEND,
        **without_home(),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = command_of("lstm_core.proof.chunk_proof")
    done = subprocess.run(command, input=pickle.dumps(request), capture_output=True, env=environment, check=False)
    if done.returncode != 0:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise ModelRefused(f"Model '{request.name}' could not be proved fit for chunks: its process ended with {last}.")
    found = pickle.loads(done.stdout)
    if isinstance(found, SlotcarError):
        raise found
    assert isinstance(found, ModelContract), found
    return found


def contract_of(config: Config, model: bytes, prove: Prove = prove_in_subprocess) -> ModelContract:
    """The contract of `model`, the bytes of model.path. Raises `ModelRefused`, `UsageError`."""
    contract = read_contract(model, name=config.model.path, code=config.code)
    if not contract.unproved:
        return contract
    chunk = config.step_settings(contract).chunk
    return prove(ProofRequest(model, contract, config.model.path, chunk))
