"""What a process that proves a model is asked: plain values, made where neither Keras nor TensorFlow is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from lstm_core.contract.model_contract import ModelContract


@dataclass(frozen=True)
class ProofRequest:
    """One model to prove."""

    model: bytes  # a `.keras` archive
    contract: ModelContract  # as the archive shows it
    name: str  # what errors call it
    chunk: int  # where the model leaves it open
