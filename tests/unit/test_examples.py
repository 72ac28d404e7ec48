"""The examples: they are what the tools that read them take, and name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from cluster.runtime.metrics import COUNTERS, GAUGES

EXAMPLES = Path(__file__).resolve().parents[2] / "jobs" / "examples"


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def test_the_dashboard_asks_for_figures_that_there_are_and_for_all_of_them() -> None:
    asked = set(re.findall(r"ray_slotcar_(\w+)", (EXAMPLES / "grafana.json").read_text()))
    exported = {f"{name}_total" for name in (*COUNTERS, "stage_seconds")} | set(GAUGES)
    assert asked == exported


def test_the_dashboards_panels_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in json.loads((EXAMPLES / "grafana.json").read_text())["panels"]:
        at = panel["gridPos"]
        taken = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not places & taken
        assert at["x"] + at["w"] <= 24
        places |= taken


def cluster_schema() -> Any:
    return json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())


def test_the_launchers_cluster_is_valid_by_rays_own_schema() -> None:
    config = read("ray-cluster.yaml")
    jsonschema.validate(config, cluster_schema())
    assert config["head_node_type"] in config["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**config, "max_workers": "many"}, cluster_schema())


def test_the_nightly_job_never_runs_beside_itself_and_is_retried() -> None:
    spec = read("cronjob.yaml")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    job = spec["jobTemplate"]["spec"]
    assert job["backoffLimit"] > 0
    (container,) = job["template"]["spec"]["containers"]
    assert container["args"][0] == "submit"
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_a_job_on_kubernetes_is_a_run_that_resumes_on_a_cluster_of_its_own() -> None:
    spec = read("rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    assert spec["entrypoint"].startswith("python -m jobs score ")
    assert spec["backoffLimit"] > 0
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "gpu"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    (container,) = groups["gpu"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"]
    for part in (cluster["headGroupSpec"], *groups.values()):
        pod = part["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
