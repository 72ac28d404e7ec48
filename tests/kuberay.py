"""The fields of KubeRay's custom resources, `ray.io/v1`, as a JSON schema; those of their pods are Kubernetes's own.

Facts of the published types of KubeRay 1.6 and 1.7: names, types, what is required, and which values there are. A field
that stands here in none of its kinds is unknown to the operator, which drops it without a word. Below `Anything` it is
not looked into; a pod's template is asked for by `pods_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TEXT, WHOLE, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANYTHING = {"type": "object"}
CRON = {"type": "string", "pattern": r"^(\S+ ){4}\S+$"}


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def _fields(required: tuple[str, ...] = (), **kinds: Any) -> dict[str, Any]:
    return {"type": "object", "properties": kinds, "required": list(required), "additionalProperties": False}


GROUP = {
    "template": ANYTHING,
    "rayStartParams": TEXTS,  # required before 1.4
    "resources": TEXTS,
    "labels": TEXTS,
}
HEAD = _fields(
    ("template",),
    **GROUP,
    headService=ANYTHING,
    enableIngress=FLAG,
    ingressOptions=ANYTHING,
    serviceType=_one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKERS = _fields(
    ("groupName", "minReplicas", "maxReplicas", "template"),
    **GROUP,
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    numOfHosts=WHOLE,
    idleTimeoutSeconds=WHOLE,
    priority=WHOLE,
    suspend=FLAG,
    scaleStrategy=ANYTHING,
)
CLUSTER = _fields(
    ("headGroupSpec",),
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=ANYTHING,
    authOptions=_fields(mode=_one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=FLAG),
    gcsFaultToleranceOptions=ANYTHING,
    headServiceAnnotations=TEXTS,
    upgradeStrategy=_fields(type=_one_of("Recreate", "None")),
    managedBy=_one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    suspend=FLAG,
)
JOB = _fields(
    entrypoint=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    entrypointResources=TEXT,
    jobId=TEXT,
    metadata=TEXTS,
    runtimeEnvYAML=TEXT,
    rayClusterSpec=CLUSTER,
    clusterSelector=TEXTS,
    submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    submitterPodTemplate=ANYTHING,
    submitterConfig=_fields(backoffLimit=WHOLE),
    backoffLimit=WHOLE,
    activeDeadlineSeconds={"type": "integer", "minimum": 1},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=WHOLE,
    deletionStrategy=ANYTHING,
    managedBy=_one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    suspend=FLAG,
)
CRON_JOB = _fields(("schedule", "jobTemplate"), schedule=CRON, jobTemplate=JOB, suspend=FLAG)  # 1.6, a feature gate


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    named = {"type": "object", "required": ["name"]}
    required = ("apiVersion", "kind", "metadata", "spec")
    return _fields(required, apiVersion=_one_of("ray.io/v1"), kind=_one_of(kind), metadata=named, spec=spec)


SCHEMAS = {kind: _resource(kind, spec) for kind, spec in (("RayJob", JOB), ("RayCronJob", CRON_JOB))}


def pods_of(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that a RayJob's spec asks for, as Kubernetes would be given them."""
    cluster = job["rayClusterSpec"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **part["template"]}
