"""The sizes of a step: a ladder of slots and timesteps, and on which of them a step runs.

What it decides: a step of which few slots are busy runs on a compiled size that holds these, wherever they are, since
empty slots cost as much as full ones, or on several calls of a smaller one, a block of slots each, longest first; and
where its series go on it takes several chunks of them in one call, since a call costs as much as a dozen slots do. What
is cheapest is told by `step_cost`. An entity never changes its slot for it. A size is used only after it has given the
bits of the full step; one that does not is refused for good, and so no score depends on which sizes there are. A size
is compiled when it is known beforehand that it will be used, or, beside the steps, once enough work was wasted.

It leaves alone what is compiled, and how it is proved: `stateful_replica`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from lstm_core.array_types import AnyInts
from lstm_core.step.step_cost import CALL, COMPILE, StepCost

WIDTH_MIN = 8  # below it a step costs nothing less: what is left is the loop itself
STEPS_MIN = 8
REACH = 4  # chunks of a call, at most: with more of them a call costs next to nothing against its steps

Size: TypeAlias = tuple[int, int]  # slots, timesteps
Compiled = TypeVar("Compiled")  # a compiled step, of which this file calls none


def ladder(whole: int, least: int) -> list[int]:
    """`whole` and its halves down to `least`, rising."""
    steps = [whole]
    while steps[0] % 2 == 0 and steps[0] // 2 >= least:
        steps.insert(0, steps[0] // 2)
    return steps


class Sizes(Generic[Compiled]):
    """The compiled sizes of one replica's step."""

    def __init__(self, whole: Size, compile_size: Callable[[Size], Compiled | None], cost: StepCost) -> None:
        """`compile_size` gives the compiled step of a size, or None where its bits differ from the full step's."""
        self.whole = whole
        self._cost = cost
        self._compile = compile_size
        self._long = REACH * whole[1]  # timesteps of a size for several chunks
        self._widths, self._lengths = ladder(whole[0], WIDTH_MIN), [*ladder(whole[1], STEPS_MIN), self._long]
        self._series_go_on = False  # some step could have taken more than one chunk
        self._steps: dict[Size, Compiled] = {}
        self._refused: set[Size] = set()
        self._wasted = 0.0  # FLOP's worth of idle slots and needless calls
        self._thread: threading.Thread | None = None

    @property
    def compiled(self) -> list[Size]:
        """The sizes beside the whole one, smallest first."""
        return sorted(self._steps)

    def block(self, size: Size) -> Size:
        """The compiled size of which a size that `fit` gave is made: itself, or one of fewer slots, again and again."""
        fitting = [known for known in self._known() if known[1] == size[1] and size[0] % known[0] == 0]
        if not fitting:
            raise ValueError(f"a step of {size} slots and timesteps was never compiled: {self.whole} is the whole one")
        return max(fitting)

    def get(self, size: Size) -> Compiled:
        """The compiled step of such a size, other than the whole one."""
        return self._steps[size]

    def smallest(self, width: int, steps: int) -> Size:
        """The smallest size of the ladder that holds `width` slots for `steps` timesteps, or its longest."""
        steps = min(steps, self._long)
        return min(w for w in self._widths if w >= width), min(s for s in self._lengths if s >= steps)

    def fit(self, lengths: AnyInts) -> Size:
        """The size to bring rows in, of which each slot has `lengths` (slot,), at least one of them some.

        Its slots are one or several blocks of a compiled size, and hold the longest first; see `packer.busy_first`.
        """
        longest_first = np.sort(lengths[lengths > 0])[::-1]
        cost, size = self._cheapest(longest_first)
        length = self._long if self._series_go_on else self.whole[1]
        fitting = (w for w in self._widths if w >= len(longest_first) and (w, length) not in self._refused)
        narrow = next(fitting, self.whole[0])
        if narrow < self.whole[0]:
            self._count_waste((narrow, length), cost - self._cost.calls(narrow, longest_first[:1]))
        return size

    def reach(self, left: AnyInts, chunks: int) -> int:
        """How many of the next `chunks` chunks one call may take of series of which `left` (busy slot,) are to come."""
        chunks = min(chunks, REACH)
        if chunks == 1:
            return 1
        self._series_go_on = True
        left = np.sort(left)[::-1]
        prices = []
        for count in (1, chunks):
            taken = np.minimum(left, count)
            cost, _ = self._cheapest(taken * self.whole[1])
            prices.append(cost / taken.sum())
        narrow = min(width for width, _ in self._known() if width >= len(left))
        # On all slots several steps go into one call as they are: see `step_groups`.
        if narrow < self.whole[0] and narrow == self.smallest(len(left), 1)[0]:
            wanted = (narrow, self._long)
            if wanted not in self._refused and wanted not in self._steps:
                self._count_waste(wanted, CALL * (chunks - 1))
        return chunks if prices[1] <= prices[0] else 1

    def prepare(self, size: Size) -> None:
        """Compiles a size of the ladder now."""
        if size == self.whole or size in self._steps or size in self._refused:
            return
        step = self._compile(size)
        if step is None:
            self._refused.add(size)
        else:
            self._steps[size] = step

    def wait(self) -> None:
        """Returns when nothing is being compiled."""
        if self._thread is not None:
            self._thread.join()

    def _known(self) -> list[Size]:
        return [self.whole, *self._steps]

    def _cheapest(self, longest_first: AnyInts) -> tuple[float, Size]:
        """The cost and the size in which busy slots of these lengths (busy slot,) cost least; infinite if none does."""
        best: tuple[float, Size] = (math.inf, self.whole)
        for width, steps in self._known():
            # The loop ends by itself behind the last row: slots cost, timesteps behind it do not.
            longest = longest_first[::width]
            whole = len(longest) * width
            if steps >= longest[0] and (whole == width or whole < self.whole[0]):
                best = min(best, (self._cost.calls(width, longest), (whole, steps)))
        return best

    def _count_waste(self, wanted: Size, waste: float) -> None:
        if waste <= 0:
            return
        self._wasted += waste
        busy = self._thread is not None and self._thread.is_alive()
        if self._wasted > COMPILE and not busy:
            self._wasted = 0.0
            self._thread = threading.Thread(target=self.prepare, args=(wanted,), name="compile", daemon=True)
            self._thread.start()
