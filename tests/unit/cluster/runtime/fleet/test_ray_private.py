"""Ray's private parts as they are, and as a Ray to come may have them. No Ray is started.

`test_ray_without_private_parts` has real runs without each of them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import ray

from cluster.runtime.fleet import ray_private
from tests.paths import ROOT

Told = Callable[[], list[str]]
Around = Callable[[], AbstractContextManager[None]]
AROUND = (ray_private.on_loopback, ray_private.without_monitors, ray_private.without_exporter)
CONSTANTS, STATE = ray._private.ray_constants, type(ray._private.state.state)
NICENESS = "RAY_worker_niceness"
REACHES = re.compile(r"\bray\._\w+|\b_raylet\b|\bray\.worker\b|\bRAY_[a-z]\w+")


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """The lines of a process that has told nothing yet."""
    monkeypatch.setattr(logging.getLogger("slotcar"), "propagate", True)  # another test may have sent it to stderr
    monkeypatch.setattr(ray_private, "_told", set())
    with caplog.at_level(logging.WARNING, logger="slotcar"):
        yield lambda: [record.getMessage() for record in caplog.records if record.module == "ray_private"]


def kept() -> tuple[Any, ...]:
    """All that may be changed while Ray starts."""
    parts = CONSTANTS.ENABLE_RAY_CLUSTER, ray._private.parameter.RayParams
    return (*parts, ray._private.utils.get_dashboard_dependency_error, dict(os.environ))


def test_an_embedded_ray_starts_on_loopback(told: Told) -> None:
    with ray_private.on_loopback():
        assert ray.util.get_node_ip_address() in ("127.0.0.1", "::1")
        assert os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert told() == []


def test_an_embedded_ray_starts_without_monitors(told: Told) -> None:
    with ray_private.without_monitors():
        made = ray._private.parameter.RayParams(num_cpus=3)
    assert (made.num_cpus, made.no_monitor, made.include_log_monitor) == (3, True, False)
    assert told() == []


def test_an_embedded_ray_starts_without_an_exporter(told: Told) -> None:
    with ray_private.without_exporter():
        assert isinstance(ray._private.utils.get_dashboard_dependency_error(), ImportError)
    assert told() == []


def test_a_nice_level_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NICENESS, "7")
    ray_private.set_worker_niceness()
    assert os.environ[NICENESS] == "7"


@pytest.mark.parametrize("around", AROUND, ids=lambda function: function.__name__)
def test_a_start_that_fails_leaves_ray_as_it_was(around: Around) -> None:
    before = kept()
    with pytest.raises(ConnectionError, match="no Ray"), around():
        raise ConnectionError("no Ray")
    assert kept() == before


def test_a_constant_without_effect_is_told_and_changes_nothing(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    before = kept()
    with ray_private.on_loopback():
        assert kept() == before
    (line,) = told()
    assert "ENABLE_RAY_CLUSTER that Slotcar knows (it leaves Ray at 10.0.0.7): an embedded Ray listens on" in line


def test_parameters_of_other_names_are_told_and_change_nothing(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.setattr(ray._private.parameter, "RayParams", lambda num_cpus=None: num_cpus)
    with ray_private.without_monitors():
        assert ray._private.parameter.RayParams(num_cpus=3) == 3
    (line,) = told()
    assert "RayParams that Slotcar knows (got an unexpected keyword argument 'no_monitor'): an embedded Ray" in line


@pytest.mark.parametrize("around", AROUND[1:], ids=lambda function: function.__name__)
def test_a_part_that_ray_does_not_use_is_told(around: Around, told: Told) -> None:
    with around():
        """Ray starts by other ways."""
    (line,) = told()
    assert "that Slotcar knows (Ray does not use it): an embedded Ray starts" in line


@pytest.mark.parametrize("nodes", [["ab"], None, {b"ab": 0}, {7: 0}])
def test_draining_nodes_of_another_kind_are_none(monkeypatch: pytest.MonkeyPatch, told: Told, nodes: Any) -> None:
    monkeypatch.setattr(STATE, "get_draining_nodes", lambda state: nodes)
    assert ray_private.draining_nodes() == frozenset()
    assert len(told()) == 1


@pytest.mark.parametrize("most", [["CPU"], 7, {"CPU": "many"}])
def test_growth_of_another_kind_is_none(monkeypatch: pytest.MonkeyPatch, told: Told, most: Any) -> None:
    monkeypatch.setattr(STATE, "get_max_resources_from_cluster_config", lambda state: most)
    assert ray_private.autoscaler_growth() is None
    assert len(told()) == 1


def test_growth_is_told_by_resource(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.setattr(STATE, "get_max_resources_from_cluster_config", lambda state: {"CPU": 8})
    assert ray_private.autoscaler_growth() == {"CPU": 8.0}
    monkeypatch.setattr(STATE, "get_max_resources_from_cluster_config", lambda state: None)
    assert ray_private.autoscaler_growth() is None
    assert told() == []


def test_a_part_that_is_missed_often_is_told_once(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.delattr(STATE, "get_draining_nodes")
    monkeypatch.delattr(CONSTANTS, "RAY_WORKER_NICENESS")
    for _ in range(3):
        ray_private.draining_nodes()
        ray_private.set_worker_niceness()
    assert len(told()) == 2


@pytest.mark.parametrize("package", ["cluster", "jobs", "lstm_core"])
def test_nobody_else_reaches_into_ray(package: str) -> None:
    files = [path for path in (ROOT / package).rglob("*.py") if path.name != "ray_private.py"]
    found = {str(path.relative_to(ROOT)): REACHES.findall(Path(path).read_text(encoding="utf-8")) for path in files}
    assert {name: reached for name, reached in found.items() if reached} == {}
