"""Chunk safety, proved: what only the scores tell is refused, and custom code is taken where its scores are right."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.commands.inspect import run
from jobs.config.model_proof import prove_in_subprocess
from lstm_core.contract.custom_code import CustomCode
from lstm_core.contract.model_contract import read_contract
from lstm_core.errors import ModelRefused, UsageError
from lstm_core.proof.chunk_proof import prove
from lstm_core.proof.proof_request import ProofRequest
from tests.models import custom_layers
from tests.models.disproved_models import DISPROVED
from tests.models.keras_models import CODE, FIT, contract_of, recurrent_model, save
from tests.models.unfit_models import causal_convolution

CUSTOM = sorted(name for name in FIT if name.startswith("custom"))


def request_of(model: Any, chunk: int = 16) -> ProofRequest:
    archive = save(model)
    return ProofRequest(archive, read_contract(archive, name="it.keras", code=CODE), "it.keras", chunk)


@pytest.mark.parametrize("name", sorted(DISPROVED))
def test_what_only_the_scores_tell_is_refused_with_its_reason(name: str) -> None:
    build, words = DISPROVED[name]
    with pytest.raises(ModelRefused) as refusal:
        prove(request_of(build()))
    sentence = str(refusal.value)
    assert [word for word in ("it.keras", *words) if word not in sentence] == [], sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", ["lstm", "stateful_rnn_of_cells", "time_distributed", "two_inputs", "nested_twice"])
def test_a_known_model_is_proved_and_its_contract_was_whole(name: str) -> None:
    request = request_of(FIT[name]())
    assert prove(request) == request.contract


def test_an_unfit_model_that_the_walk_would_let_pass_is_caught_by_its_scores() -> None:
    """The two nets are independent: Keras's own layers are proved as well."""
    fit = request_of(FIT["lstm"]())
    unfit = save(causal_convolution())
    with pytest.raises(ModelRefused, match="differ by"):
        prove(ProofRequest(unfit, replace(fit.contract, fingerprint="another"), "it.keras", 16))


def test_the_proof_tells_what_the_archive_does_not_show() -> None:
    shown = request_of(FIT["custom_cell_among_others"]()).contract
    assert (shown.unproved, shown.recurrent[0].state_shapes) == (("memory",), ())
    proved = contract_of(save(FIT["custom_cell_among_others"]()))
    assert proved.recurrent[0].state_shapes == ((4,), (4,), (3,))
    assert [layer.name for layer in proved.recurrent] == ["memory", "second"]
    assert contract_of(save(FIT["custom_recurrent_layer"]())).recurrent[0].kind == "OwnLSTM"
    assert contract_of(save(FIT["custom_layer_at_the_end"]())).score_values == 2


@pytest.mark.parametrize("name", CUSTOM)
def test_custom_code_without_its_module_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(ModelRefused, match=r"custom.* no module is named that registers it; name it in model\.modules"):
        read_contract(save(FIT[name]()), name="it.keras")


def test_a_module_that_cannot_be_imported_is_named() -> None:
    archive = save(recurrent_model(custom_layers.OwnLSTM(4, return_sequences=True)))
    code = CustomCode(("no_such_module",), ("here",))
    contract = read_contract(archive, name="it.keras", code=code)
    with pytest.raises(UsageError, match=r"model\.modules: module 'no_such_module' cannot be imported .* in here, and"):
        prove(ProofRequest(archive, contract, "it.keras", 16))


def test_a_model_is_proved_in_a_process_of_its_own() -> None:
    with pytest.raises(ModelRefused, match="'mixes'"):
        prove_in_subprocess(request_of(DISPROVED["custom_layer_that_mixes_time_and_says_nothing"][0]()))


def test_inspect_proves_a_model_with_custom_code(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(save(FIT["custom_cell"]()))
    found = run(path, CODE.modules, prove=prove)
    assert found.contract.recurrent[0].state_shapes == ((5,),)
    build, _ = DISPROVED["custom_layer_that_mixes_time_and_says_nothing"]
    path.write_bytes(save(build()))
    with pytest.raises(ModelRefused, match="'mixes'"):
        run(path, CODE.modules, prove=prove)


def test_asking_for_a_proof_imports_no_keras() -> None:
    engines = "{'keras', 'tensorflow', 'ray'}"
    code = f"import sys, jobs.config.model_proof, jobs.commands.inspect; print({engines} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
