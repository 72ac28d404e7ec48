"""What every test runs under: quiet engines, no GPU, no time limit of Hypothesis's own; and the one S3 server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from cluster.core import lock
from tests.fakes.clouds import Cloud, azure, google
from tests.fakes.s3_server import ENVIRONMENT, S3, s3_server
from tests.paths import ROOT

# Before anything imports TensorFlow or Ray, here and in the processes that tests start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns of a coming change without it
# Replicas run code of the tests, which are not installed, and do not look into the folder where a driver was started.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

# A slow machine is no failure; pytest-timeout ends what hangs.
settings.register_profile("slotcar", deadline=None, print_blob=True)
settings.load_profile("slotcar")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, whatever order chance has given them: the last one decides the end."""
    items.sort(key=lambda item: (item.get_closest_marker("ray") is None, "integration" not in item.path.parts))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon takes a driver for dead whose lock no fault let it release; for tests with one driver at a time."""
    monkeypatch.setattr(lock, "STALE_S", 1.0)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server on loopback, one for all tests of this process, with its keys in the environment."""
    with pytest.MonkeyPatch.context() as patch, s3_server(tmp_path_factory.mktemp("s3")) as server:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An imitation of Google Cloud Storage."""
    with google(tmp_path_factory.mktemp("gs")) as (cloud, environment):
        yield from _reached(cloud, environment)


@pytest.fixture(scope="session")
def abfs() -> Iterator[Cloud]:
    """An imitation of Azure Blob Storage."""
    with azure() as (cloud, environment):
        yield from _reached(cloud, environment)


def _reached(cloud: Cloud, environment: dict[str, str]) -> Iterator[Cloud]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield cloud
