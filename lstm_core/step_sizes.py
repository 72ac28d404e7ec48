"""The sizes of a step: a ladder of prefixes of its slots, and which of them a step runs on.

What it decides: a step whose busy slots are the first few runs on the shortest compiled prefix that holds them, since
empty slots cost as much as full ones. An entity never changes its slot for it. A size is used only after it has given
the bits of the full step; one that does not is refused for good, and so no score depends on which sizes there are. A
size is compiled when it is known beforehand that it will be used, or, beside the steps, once enough work was wasted.

It leaves alone what is compiled, and how it is proved: `replica`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

WIDTH_MIN = 8  # below it a step costs nothing less: what is left is the loop itself
STEPS_MIN = 8
WASTE_MAX = 60.0  # full steps' worth of idle slots after which a narrower size is compiled: it costs about as much

Size = tuple[int, int]  # slots, timesteps


def ladder(whole: int, least: int) -> list[int]:
    """`whole` and its halves down to `least`, rising."""
    steps = [whole]
    while steps[0] % 2 == 0 and steps[0] // 2 >= least:
        steps.insert(0, steps[0] // 2)
    return steps


class Sizes:
    """The compiled sizes of one replica's step."""

    def __init__(self, whole: Size, compile_size: Callable[[Size], Any | None]) -> None:
        """`compile_size` gives the compiled step of a size, or None where its bits differ from the full step's."""
        self.whole = whole
        self._compile = compile_size
        self._widths, self._lengths = ladder(whole[0], WIDTH_MIN), ladder(whole[1], STEPS_MIN)
        self._steps: dict[Size, Any] = {}
        self._refused: set[Size] = set()
        self._wasted: dict[Size, float] = {}
        self._thread: threading.Thread | None = None

    @property
    def compiled(self) -> list[Size]:
        """The sizes beside the whole one, smallest first."""
        return sorted(self._steps)

    def get(self, size: Size) -> Any:
        """The compiled step of a size that `fit` gave, other than the whole one."""
        if size not in self._steps:
            raise ValueError(f"a step of {size} slots and timesteps was never compiled: {self.whole} is the whole one")
        return self._steps[size]

    def smallest(self, width: int, steps: int) -> Size:
        """The smallest size of the ladder that holds the first `width` slots for `steps` timesteps."""
        return min(w for w in self._widths if w >= width), min(s for s in self._lengths if s >= steps)

    def fit(self, width: int, steps: int) -> Size:
        """The smallest compiled size that holds the first `width` slots for `steps` timesteps."""
        known = [size for size in list(self._steps) if size[0] >= width and size[1] >= steps]
        chosen = min(known, key=lambda size: size[0] * size[1], default=self.whole)
        # The loop ends by itself behind the last row, so a narrower size is worth compiling, a shorter one is not.
        self._count_waste(chosen, (self.smallest(width, steps)[0], self.whole[1]))
        return chosen

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

    def _count_waste(self, chosen: Size, wanted: Size) -> None:
        if wanted[0] >= chosen[0] or wanted in self._refused:
            return
        self._wasted[wanted] = self._wasted.get(wanted, 0.0) + (chosen[0] - wanted[0]) / self.whole[0]
        busy = self._thread is not None and self._thread.is_alive()
        if self._wasted[wanted] > WASTE_MAX and not busy:
            self._thread = threading.Thread(target=self.prepare, args=(wanted,), name="compile", daemon=True)
            self._thread.start()
