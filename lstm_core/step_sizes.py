"""The sizes of a step: a ladder of slots and timesteps, and on which of them a step runs.

What it decides: a step of which few slots are busy runs on the smallest compiled size that holds these, wherever they
are, since empty slots cost as much as full ones, and where its series go on it takes several chunks of them in one
call, since a call costs as much as a dozen slots do. An entity never changes its slot for it. A size is used only after
it has given the bits of the full step; one that does not is refused for good, and so no score depends on which sizes
there are. A size is compiled when it is known beforehand that it will be used, or, beside the steps, once enough work
was wasted.

It leaves alone what is compiled, and how it is proved: `replica`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

WIDTH_MIN = 8  # below it a step costs nothing less: what is left is the loop itself
STEPS_MIN = 8
REACH = 4  # chunks of a call, at most: with more of them a call costs next to nothing against its steps
CALL_WASTE = 0.05  # of a full step, that a call costs beside its timesteps
WASTE_MAX = 60.0  # full steps' worth of idle slots and needless calls: about what it costs to compile a size

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
        self._long = REACH * whole[1]  # timesteps of a size for several chunks
        self._widths, self._lengths = ladder(whole[0], WIDTH_MIN), [*ladder(whole[1], STEPS_MIN), self._long]
        self._series_go_on = False  # some step could have taken more than one chunk
        self._steps: dict[Size, Any] = {}
        self._refused: set[Size] = set()
        self._wasted = 0.0
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
        """The smallest size of the ladder that holds `width` slots for `steps` timesteps, or its longest."""
        steps = min(steps, self._long)
        return min(w for w in self._widths if w >= width), min(s for s in self._lengths if s >= steps)

    def fit(self, width: int, steps: int) -> Size:
        """The smallest compiled size that holds `width` slots for `steps` timesteps."""
        # The loop ends by itself behind the last row: slots cost, timesteps behind it do not.
        chosen = min(size for size in self._known() if size[0] >= width and size[1] >= steps)
        length = self._long if self._series_go_on else self.whole[1]
        fitting = (w for w in self._widths if w >= width and (w, length) not in self._refused)
        narrow = next(fitting, self.whole[0])
        if narrow < chosen[0]:
            self._count_waste((narrow, length), (chosen[0] - narrow) / self.whole[0])
        return chosen

    def reach(self, width: int, chunks: int) -> int:
        """How many of the next `chunks` chunks of the series in `width` slots one call may take."""
        chunks = min(chunks, REACH)
        if chunks == 1:
            return 1
        self._series_go_on = True
        narrow = min(size[0] for size in self._known() if size[0] >= width)
        longest = max(size[1] for size in self._known() if size[0] == narrow)
        allowed = min(chunks, max(1, longest // self.whole[1]))
        wanted = (narrow, self._long)
        if allowed < chunks and wanted not in self._refused and narrow == self.smallest(width, 1)[0]:
            self._count_waste(wanted, CALL_WASTE * (chunks - allowed))
        return allowed

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

    def _count_waste(self, wanted: Size, waste: float) -> None:
        self._wasted += waste
        busy = self._thread is not None and self._thread.is_alive()
        if self._wasted > WASTE_MAX and not busy:
            self._wasted = 0.0
            self._thread = threading.Thread(target=self.prepare, args=(wanted,), name="compile", daemon=True)
            self._thread.start()
