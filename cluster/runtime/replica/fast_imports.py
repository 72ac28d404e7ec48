"""How the process of one replica imports TensorFlow and all that comes with it: in three quarters of the time.

What it decides, for a process that Ray has started for one actor and nobody else: that the garbage collector rests
while hundreds of thousands of objects are made that stay to the end, and leaves them alone from then on; and that
pandas stays out. Keras and Arrow import it where it is installed, Arrow at its first array, and neither has a use for
it here. A model's own modules are imported later, and find all that is installed; only Arrow's own ways from and to
pandas are closed to them.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import pyarrow as pa
import ray

PANDAS = "pandas"


@contextmanager
def fast_imports() -> Iterator[None]:
    """What is imported inside it is imported so; in a process that is not an actor's own all is as ever."""
    if not _is_own_process():
        yield
        return
    gc.disable()
    try:
        with _missing(PANDAS):
            pa.array([])  # Arrow looks once
            yield
    finally:
        gc.freeze()
        gc.enable()


def _is_own_process() -> bool:
    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


class _Missing:
    """As if a module were not installed: the first that Python asks where one lies."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == self._name:
            raise ModuleNotFoundError(f"no {name} in a replica", name=name)


@contextmanager
def _missing(name: str) -> Iterator[None]:
    finder = _Missing(name)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
