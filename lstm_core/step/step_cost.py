"""What a step costs: which of two ways to take the same rows is cheaper, told without a clock.

What it decides: the prices, in FLOP of a matrix product, of all that a step on a CPU does beside its products. They
were measured on models of 8 to 256 units; another machine has others, and then takes a way that is somewhat dearer, to
the same scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lstm_core.array_types import AnyInts

CALL = 45e6  # of the compiled function, whatever is in it
TIMESTEP = 80e3  # of its loop, for however many slots
ROW = 6e3  # in and out of the step
VALUE = 200  # of a state, for its activations
COMPILE = 60e9  # a size, and to compare its bits

CALL_SHARE = 0.005  # of the steps of a call, that the call itself may cost


@dataclass(frozen=True)
class StepCost:
    """The prices of one model's steps."""

    row: float  # of one slot at one timestep

    @staticmethod
    def of(products: int, values: int) -> StepCost:
        """For a model of `products` FLOP per row in matrix products, and so many state values per slot."""
        return StepCost(products + VALUE * values + ROW)

    def calls(self, width: int, lengths: AnyInts) -> float:
        """Of one call for each of `lengths`, on `width` slots of which the longest has so many timesteps."""
        return len(lengths) * CALL + float(np.sum(lengths)) * (TIMESTEP + width * self.row)

    def steps_of_call(self, width: int, steps: int) -> int:
        """How many steps of `steps` timesteps a call is to have, so that it costs no more than `CALL_SHARE` of them."""
        return math.ceil(CALL / CALL_SHARE / (self.calls(width, np.array([steps])) - CALL))
