"""What a step costs, by the model and by the way it is taken."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_core.step.rebatch import build_step_model
from lstm_core.step.stateful_replica import cost_of
from lstm_core.step.step_cost import CALL, ROW, TIMESTEP, VALUE, StepCost
from tests.models.keras_models import FIT, contract_of, save


def test_slots_cost_as_far_as_the_longest_of_their_call_goes() -> None:
    cost = StepCost.of(1_000, 10)
    assert cost.row == 1_000 + 10 * VALUE + ROW
    assert cost.calls(8, np.array([64, 3])) == 2 * CALL + 67 * (TIMESTEP + 8 * cost.row)


@pytest.mark.parametrize("name", ["lstm", "gru", "stacked", "two_inputs", "nested_functional"])
def test_a_row_costs_the_products_of_its_model_but_no_table(name: str) -> None:
    step_model = build_step_model(FIT[name]())
    values = sum(int(np.prod(state.shape)) for state in step_model.states)
    products = cost_of(step_model).row - ROW - VALUE * values
    flop = contract_of(save(FIT[name]())).flop_per_row
    assert flop <= products <= 1.5 * flop  # biases count as weights
