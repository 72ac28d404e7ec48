"""A replica's process imports what it needs, quickly; a process that is anybody else's is left as it is."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from cluster.core.settings import ClusterSettings
from cluster.runtime.fleet.ray_session import connected
from cluster.runtime.replica.fast_imports import fast_imports

pytestmark = pytest.mark.ray


class Importer:
    """Imports in a process of its own, as a replica does."""

    def imported(self) -> dict[str, Any]:
        with fast_imports():
            resting = not gc.isenabled()
            import keras  # noqa: F401
        import pyarrow as pa

        pa.array([1])
        before = "pandas" in sys.modules
        import pandas

        return {"resting": resting, "awake": gc.isenabled(), "left alone": gc.get_freeze_count()} | {
            "pandas came along": before,
            "pandas": pandas.__name__,
        }


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    with connected(ClusterSettings(replicas=1)):
        yield


@pytest.mark.usefixtures("ray_here")
def test_in_a_process_of_its_own_pandas_stays_out_until_somebody_wants_it() -> None:
    actor: Any = ray.remote(Importer).remote()
    found = ray.get(actor.imported.remote())
    assert found.pop("left alone") > 100_000
    assert found == {"resting": True, "awake": True, "pandas came along": False, "pandas": "pandas"}


@pytest.mark.usefixtures("ray_here")
def test_in_the_drivers_process_nothing_is_held_back() -> None:
    before = gc.get_freeze_count()
    with fast_imports():
        assert gc.isenabled()
        import pandas  # noqa: F401
    assert gc.get_freeze_count() == before
