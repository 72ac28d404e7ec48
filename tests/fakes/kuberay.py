"""The fields of KubeRay's custom resources, `ray.io/v1`, as a JSON schema; those of their pods are Kubernetes's own.

Facts of the published types of KubeRay 1.6 and 1.7, and of what its operator refuses when it has been given a resource:
names, types, what is required, which values there are, and which of them go together. A field that stands here in none
of its kinds is unknown to the operator, which drops it without a word. Below `ANYTHING` it is not looked into; a pod's
template is asked for by `pods_of`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TEXT, WHOLE, NUMBER, FLAG = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
COUNT, POSITIVE, SOME_TEXT = {**WHOLE, "minimum": 0}, {**WHOLE, "minimum": 1}, {**TEXT, "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANYTHING = {"type": "object"}
JOB_NAME_MAX = 47  # the cluster's name is longer by six, and that of its services by ten more, of 63 in all
NAME = {"type": "string", "pattern": r"^[a-z]([-a-z0-9]*[a-z0-9])?$"}


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


def _times(numbers: str, names: str = "") -> str:
    """A field of a schedule: a list of numbers or names, of ranges of them, or of all, each perhaps in steps."""
    one = f"(0*({numbers}){'|' if names else ''}{names})"
    part = rf"([*?]|{one}(-{one})?)(/0*[1-9][0-9]*)?"
    return f"{part}(,{part})*"


MONTHS, WEEKDAYS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec", "sun|mon|tue|wed|thu|fri|sat"
TIMES = (
    _times("[0-9]|[1-5][0-9]"),
    _times("[0-9]|1[0-9]|2[0-3]"),
    _times("[1-9]|[12][0-9]|3[01]"),
    _times("[1-9]|1[0-2]", MONTHS),
    _times("[0-6]", WEEKDAYS),  # 7 is no Sunday here
)
NAMED = r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every ([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+)"
# A time zone before the five fields is refused since 1.7, which has a field for it.
FIVE = r"\s+".join(TIMES)
CRON = {"type": "string", "pattern": rf"^({NAMED}|\s*(?i:{FIVE})\s*)$"}


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
# Of a cluster that belongs to a job: the operator refuses an upgradeStrategy there, and Kubernetes's own tokens.
CLUSTER = _fields(
    ("headGroupSpec",),
    headGroupSpec=HEAD,
    workerGroupSpecs={"type": "array", "items": WORKERS},
    rayVersion=TEXT,
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=ANYTHING,
    authOptions=_fields(mode=_one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth={"const": False}),
    gcsFaultToleranceOptions=ANYTHING,
    headServiceAnnotations=TEXTS,
    historyServerOptions=ANYTHING,  # this and the next two since 1.7, behind feature gates
    networkPolicy=ANYTHING,
    tlsOptions=_fields(enabled=FLAG),
    managedBy=_one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    suspend=FLAG,
)
JOB_FIELDS = _fields(
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
    backoffLimit=COUNT,
    activeDeadlineSeconds=POSITIVE,
    preRunningDeadlineSeconds=POSITIVE,  # since 1.6
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    deletionStrategy=ANYTHING,
    managedBy=_one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
    suspend=FLAG,
)


def _where(field: str, values: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {field: values}, "required": [field]}, "then": then}


def _with(**kinds: Any) -> dict[str, Any]:
    return {"properties": kinds, "required": list(kinds)}


def _without(*fields: str) -> dict[str, Any]:
    return {"properties": dict.fromkeys(fields, False)}


SHUT_DOWN = _with(shutdownAfterJobFinishes={"const": True})
NO_RETRY: dict[str, Any] = {"properties": {"backoffLimit": {"const": 0}}}
SELECTS = _with(clusterSelector=_with(**{"ray.io/cluster": SOME_TEXT}))
RULES = [
    {"anyOf": [{"required": ["rayClusterSpec"]}, SELECTS]},
    _where("ttlSecondsAfterFinished", {"minimum": 1}, SHUT_DOWN),
    _where("suspend", {"const": True}, {"allOf": [SHUT_DOWN, {"not": {"required": ["clusterSelector"]}}]}),
    _where("clusterSelector", {"minProperties": 1}, NO_RETRY),
    _where("submissionMode", {"const": "InteractiveMode"}, NO_RETRY),
    _where(
        "submissionMode",
        {"const": "SidecarMode"},
        _without("clusterSelector", "submitterPodTemplate", "submitterConfig"),
    ),
]
JOB = {**JOB_FIELDS, "allOf": RULES}
# Since 1.6, behind a feature gate, and since 1.7 with a time zone, else it is the operator's own. Unlike Kubernetes's
# CronJob it knows no concurrencyPolicy, no deadline for a late start and no limits to its history; and the template is
# the job's spec itself, with no metadata around it.
CRON_JOB = _fields(("schedule", "jobTemplate"), schedule=CRON, timeZone=SOME_TEXT, jobTemplate=JOB, suspend=FLAG)


def _resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    # A cron job's name must be shorter yet since 1.7, by what its jobs' names have behind it.
    named = {"type": "object", "properties": {"name": {**NAME, "maxLength": JOB_NAME_MAX}}, "required": ["name"]}
    required = ("apiVersion", "kind", "metadata", "spec")
    return _fields(required, apiVersion=_one_of("ray.io/v1"), kind=_one_of(kind), metadata=named, spec=spec)


SCHEMAS = {kind: _resource(kind, spec) for kind, spec in (("RayJob", JOB), ("RayCronJob", CRON_JOB))}


def pods_of(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that a RayJob's spec asks for, as Kubernetes would be given them."""
    cluster = job["rayClusterSpec"]
    for part in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **part["template"]}
