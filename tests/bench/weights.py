"""The LSTM's weights out of a `.keras` archive, without Keras, for the rooflines of other engines."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

GATES = "ifco"  # in Keras's order: input, forget, cell, output

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """As Keras keeps them: the four gates side by side."""

    kernel: Floats  # (feature, 4 units)
    recurrent: Floats  # (unit, 4 units)
    bias: Floats  # (4 units,)

    @staticmethod
    def read(model: Path) -> Weights:
        """The weights of the only LSTM of an archive."""
        with zipfile.ZipFile(model) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            variables = file["layers/lstm/cell/vars"]
            return Weights(*(np.asarray(variables[str(index)], np.float32) for index in range(3)))

    def ordered(self, gates: str, part: str) -> Floats:
        """One of the three arrays with its gates in another engine's order."""
        pieces = np.split(getattr(self, part), len(GATES), axis=-1)
        return np.concatenate([pieces[GATES.index(gate)] for gate in gates], axis=-1)
