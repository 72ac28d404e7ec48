"""The examples: they are what the tools that read them take, and name what there is."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

from cluster.runtime.fleet.prometheus import COUNTERS, GAUGES
from jobs.config.night_keys import night_overrides
from tests.fakes.kuberay import SCHEMAS, pods_of
from tests.paths import ROOT

EXAMPLES = ROOT / "jobs" / "examples"


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


def strictly_valid(resource: Any) -> None:
    """By Kubernetes's own schema, in which a field that it does not know is an error."""
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_the_nightly_job_is_valid_by_kubernetess_own_schema() -> None:
    resource = read("cronjob.yaml")
    strictly_valid(resource)
    resource["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        strictly_valid(resource)


JOBS = {"rayjob.yaml": lambda spec: spec, "raycronjob.yaml": lambda spec: spec["jobTemplate"]}


@pytest.mark.parametrize("name", JOBS)
def test_jobs_on_kubernetes_have_the_operators_fields_and_kubernetess_pods(name: str) -> None:
    resource = read(name)
    schema = SCHEMAS[resource["kind"]]
    jsonschema.validate(resource, schema)
    job = JOBS[name](resource["spec"])
    pods = list(pods_of(job))
    assert len(pods) == 3
    for pod in pods:
        strictly_valid(pod)
    job["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 8
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(resource, schema)
    pods[0]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        strictly_valid(pods[0])


def given(name: str, **changes: Any) -> Any:
    """An example with some fields of its spec replaced, those of the job where its spec is inside; None: left out."""
    resource = read(name)
    spec, job = resource["spec"], JOBS[name](resource["spec"])
    for field, value in changes.items():
        place = spec if field in ("schedule", "timeZone", "concurrencyPolicy", "jobTemplate") else job
        place.pop(field, None)
        if value is not None:
            place[field] = value
    return resource


def is_taken(resource: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMAS[resource["kind"]]).is_valid(resource))


SCHEDULES = ["0 2 * * *", "*/5  0-6,22 ? JAN-mar mon", "00 02 1-31/2 12 0", "7/10 * * * *", "@daily", "@every 1h30m"]
NO_SCHEDULES = [
    "",
    "0 2 * *",
    "0 0 2 * * *",  # no seconds
    "60 2 * * *",
    "0 24 * * *",
    "0 2 0 * *",
    "0 2 L * *",
    "0 2 * * 7",
    "*/0 * * * *",
    "TZ=Europe/Berlin 0 2 * * *",
    "CRON_TZ=Europe/Berlin 0 2 * * *",
    "@nightly",
    "@every day",
]


@pytest.mark.parametrize(("schedule", "taken"), [(s, True) for s in SCHEDULES] + [(s, False) for s in NO_SCHEDULES])
def test_a_schedule_is_five_fields_or_a_name(schedule: str, taken: bool) -> None:
    assert is_taken(given("raycronjob.yaml", schedule=schedule)) is taken


@pytest.mark.parametrize(
    ("name", "changes", "taken"),
    [
        ("raycronjob.yaml", {"timeZone": "Europe/Berlin"}, True),
        ("raycronjob.yaml", {"timeZone": ""}, False),
        ("raycronjob.yaml", {"concurrencyPolicy": "Forbid"}, False),
        ("raycronjob.yaml", {"schedule": None}, False),
        ("raycronjob.yaml", {"jobTemplate": None}, False),
        ("raycronjob.yaml", {"jobTemplate": {"spec": read("rayjob.yaml")["spec"]}}, False),
        ("rayjob.yaml", {"preRunningDeadlineSeconds": 600}, True),
        ("rayjob.yaml", {"preRunningDeadlineSeconds": 0}, False),
        ("rayjob.yaml", {"activeDeadlineSeconds": 0}, False),
        ("rayjob.yaml", {"backoffLimit": -1}, False),
        ("rayjob.yaml", {"shutdownAfterJobFinishes": None}, False),  # its cluster would be kept, and has a time to live
        ("rayjob.yaml", {"shutdownAfterJobFinishes": None, "ttlSecondsAfterFinished": None}, True),
        ("rayjob.yaml", {"suspend": True}, True),
        ("rayjob.yaml", {"suspend": True, "shutdownAfterJobFinishes": False, "ttlSecondsAfterFinished": 0}, False),
        ("rayjob.yaml", {"rayClusterSpec": None}, False),
        ("rayjob.yaml", {"rayClusterSpec": None, "clusterSelector": {"ray.io/cluster": "a"}}, False),  # and retries
        ("rayjob.yaml", {"rayClusterSpec": None, "clusterSelector": {"ray.io/cluster": "a"}, "backoffLimit": 0}, True),
        ("rayjob.yaml", {"submissionMode": "InteractiveMode"}, False),
        ("rayjob.yaml", {"submissionMode": "InteractiveMode", "backoffLimit": 0}, True),
        ("rayjob.yaml", {"submissionMode": "SidecarMode"}, True),
        ("rayjob.yaml", {"submissionMode": "SidecarMode", "submitterConfig": {"backoffLimit": 1}}, False),
    ],
)
def test_what_the_operator_refuses_is_refused_here(name: str, changes: dict[str, Any], taken: bool) -> None:
    assert is_taken(given(name, **changes)) is taken


@pytest.mark.parametrize(("name", "taken"), [("n" * 47, True), ("n" * 48, False), ("Nightly", False), ("9th", False)])
def test_a_jobs_name_leaves_room_for_those_that_are_made_of_it(name: str, taken: bool) -> None:
    resource = read("rayjob.yaml")
    resource["metadata"]["name"] = name
    assert is_taken(resource) is taken


def test_the_job_of_every_night_is_the_job_of_one_but_for_its_date() -> None:
    nightly, once = read("raycronjob.yaml")["spec"]["jobTemplate"], read("rayjob.yaml")["spec"]
    assert nightly.pop("entrypoint").startswith("sh /config/night.sh score ")
    del once["entrypoint"]
    assert nightly == once


@pytest.mark.parametrize("day", ["2026-03-01", "2026-02-27"])
def test_the_shells_night_is_the_night_of_python(tmp_path: Path, day: str) -> None:
    """Yesterday is `day`; in place of the program stands one that says how it was called."""
    (tmp_path / "slotcar").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "slotcar").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TABLES": "t", "FIRST": "2026-02-27"}
    environment["TODAY"] = str(date.fromisoformat(day) + timedelta(days=1))
    command = ["sh", str(EXAMPLES / "night.sh"), "score", "c.toml"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert said[:2] == ["score", "c.toml"]
    keys = {word.replace("=t/", "=") for word in said[2:] if word != "--set"}
    assert keys == set(night_overrides(day, first="2026-02-27"))


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
