"""`--gpu`: whether there is a GPU, how busy it is, on whose kernels, its copies, its memory, and which slots fill it.

Two tables follow that of the round. The first is Slotcar's whole road on one replica under TensorFlow's profiler, with
XLA (`model.jit = true`) and without it, where cuDNN has its chance, and on the workload's slots and twice as many, so
that memory splits into what a slot takes and what the model does. The second is a replica's step alone on more and more
slots: a GPU is full where twice the slots give little more. Each run is a process of its own, since the profiler and
the peak of memory are the process's. TensorFlow is never imported here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tests.bench.measure import PROFILED, SUBJECTS, Measure
from tests.bench.task import Measured, Task
from tests.bench.trace import GpuTrace

SWEEP = (256, 512, 1_024, 2_048, 4_096, 8_192)
SWEEP_SMOKE = (8, 16)
WORTH = 1.1  # rows/s on twice the slots, over those on the slots, below which a GPU counts as full

LOOK = """
import json, tensorflow as tf
devices = tf.config.list_physical_devices("GPU")
details = [tf.config.experimental.get_device_details(device) for device in devices]
build = tf.sysconfig.get_build_info()
print(json.dumps({
    "names": [str(detail.get("device_name", device.name)) for detail, device in zip(details, devices)],
    "version": tf.__version__,
    "cuda": build.get("cuda_version") if tf.test.is_built_with_cuda() else None,
    "cudnn": build.get("cudnn_version"),
}))
"""

ROAD_HEAD = (
    "| model.jit | slots | M rows/s | GPU computes, of the work | of its own span | cuDNN, of kernel time "
    "| MB to the GPU | copies overlapped with kernels | from pageable memory | GPU, MB |"
)
STEP_HEAD = "| model.jit | slots | M rows/s of the step alone | x the line before | GPU, MB |"


@dataclass(frozen=True)
class Seen:
    """The GPUs that TensorFlow lists, and what it was built for."""

    names: tuple[str, ...]
    version: str
    cuda: str | None  # None where it was built without
    cudnn: str | None = None


@dataclass(frozen=True)
class Point:
    """One run."""

    jit: bool
    slots: int
    measured: Measured

    @property
    def device_bytes(self) -> int:
        return int(self.measured.notes["device_bytes"])

    @property
    def trace(self) -> GpuTrace | None:
        """None for a run that was not traced, or whose trace has no GPU in it."""
        found = self.measured.notes.get("gpu")
        return GpuTrace(**found) if found else None


def look() -> Seen:
    """What TensorFlow sees, asked in a process of its own."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    asked = subprocess.run([sys.executable, "-c", LOOK], check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found = json.loads(asked.stdout.splitlines()[-1])
    return Seen(tuple(found["names"]), found["version"], found["cuda"], found["cudnn"])


def refusal(seen: Seen, replicas: int) -> str | None:
    """The sentence where there are fewer GPUs than replicas."""
    if len(seen.names) >= replicas:
        return None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    built = f"built for CUDA {seen.cuda}" if seen.cuda else "built without CUDA"
    remedy = "give --replicas as many" if seen.names else "install the extra `gpu` and NVIDIA's driver"
    if hidden is not None and not seen.names:
        remedy = f"unset CUDA_VISIBLE_DEVICES, which is {hidden!r}, or {remedy}"
    return (
        f"--gpu wants a GPU for each of {replicas} replicas, but TensorFlow {seen.version}, {built}, sees "
        f"{len(seen.names)}: {remedy}, or leave --gpu out to measure on CPUs."
    )


def describe(seen: Seen) -> str:
    """What it is measured on, and who is."""
    engines = f"CUDA {seen.cuda}, cuDNN {seen.cudnn}"
    return (
        f"GPU: {', '.join(seen.names)}; {engines}; for slotcar, slotcar-1, step and own-step, all others run on the CPU"
    )


def report(task: Task, measure: Measure, sweep: Sequence[int]) -> Iterator[str]:
    """The lines of both tables and what follows from them; each line comes when it is known."""
    slots = task.workload.slots
    yield f"\n{task.workload.name}: the whole road on one replica and one GPU, under TensorFlow's profiler"
    yield from _head(ROAD_HEAD)
    roads = []
    for jit in (True, False):
        for count in (slots, 2 * slots):
            roads.append(Point(jit, count, measure(PROFILED, _sized(task, jit, count))))
            yield road_line(roads[-1])
            for complaint in roads[-1].measured.notes["complaints"]:
                yield f"model.jit = {_jit(jit)}, {count:,} slots: the profiler says: {complaint}"
    for jit in (True, False):
        pair = [point for point in roads if point.jit is jit]
        yield from verdicts(pair[0])
        yield memory_line(*pair)
    yield f"\n{task.workload.name}: a replica's step alone"
    yield from _head(STEP_HEAD)
    for jit in (True, False):
        yield from _swept(task, measure, jit, sweep)


def _sized(task: Task, jit: bool, slots: int) -> Task:
    workload = replace(task.workload, jit=jit, slots=slots)
    return replace(task, workload=workload, replicas=1, output=task.output / f"gpu-{'xla' if jit else 'plain'}-{slots}")


def _head(head: str) -> Iterator[str]:
    yield head
    yield "| --- " * (head.count("|") - 1) + "|"


def road_line(point: Point) -> str:
    """A line of the first table."""
    trace, work_s = point.trace, point.measured.work_s
    cells = [_jit(point.jit), f"{point.slots:,}", _rate(point.measured)]
    if trace is None:
        cells += ["no GPU in the trace", *[""] * 5]
    else:
        cells += [_share(trace.computing_s, work_s), _share(trace.computing_s, trace.span_s)]
        cells += [_share(trace.cudnn_s, trace.kernel_s), f"{trace.upload_bytes / 1e6:.1f}"]
        cells += [_share(trace.hidden_s, trace.upload_s), _share(trace.pageable_bytes, trace.upload_bytes)]
    return f"| {' | '.join([*cells, _megabytes(point)])} |"


def verdicts(point: Point) -> Iterator[str]:
    """On whose kernels the model ran."""
    trace, told = point.trace, f"model.jit = {_jit(point.jit)}"
    if trace is None:
        planes = ", ".join(point.measured.notes["planes"])
        yield f"{told}: no GPU is in the trace ({planes}); where its driver lets only root profile, run this as root"
        return
    path = f"cuDNN path, {_share(trace.cudnn_s, trace.kernel_s)} of kernel time" if trace.cudnn_s else "no cuDNN kernel"
    longest = ", ".join(f"{name[:60]} {seconds:.2f} s" for name, seconds in trace.longest.items())
    yield f"{told}: {path}; the step is '{point.measured.notes['kernel']}'; longest kernels: {longest}"


def memory_line(one: Point, more: Point) -> str:
    """What a slot takes of the GPU's memory, and what is there without any, from the peaks of two runs."""
    each = (more.device_bytes - one.device_bytes) / (more.slots - one.slots)
    fixed = one.device_bytes - each * one.slots
    return f"model.jit = {_jit(one.jit)}: {each / 1e3:.1f} kB of GPU memory per slot, and {fixed / 1e6:.1f} MB without"


def _swept(task: Task, measure: Measure, jit: bool, sweep: Sequence[int]) -> Iterator[str]:
    points: list[Point] = []
    for slots in sweep:
        try:
            points.append(Point(jit, slots, measure(SUBJECTS["own-step"], _sized(task, jit, slots))))
        except RuntimeError as fault:  # what is too large for the GPU is a result too
            yield f"{slots:,} slots do not run: {str(fault).splitlines()[-1]}"
            break
        yield step_line(points[-1], points[-2] if len(points) > 1 else None)
    if points:
        yield advice(points, task.workload.entities)


def step_line(point: Point, before: Point | None) -> str:
    """A line of the second table."""
    gain = f"{point.measured.rows_per_s / before.measured.rows_per_s:.2f}" if before else ""
    cells = [_jit(point.jit), f"{point.slots:,}", _rate(point.measured), gain, _megabytes(point)]
    return f"| {' | '.join(cells)} |"


def advice(points: Sequence[Point], entities: int) -> str:
    """Which slots to take."""
    full = full_from(points)
    told = f"model.jit = {_jit(points[0].jit)}: "
    if full is None:
        told += f"{points[-1].slots:,} slots do not fill the GPU"
    else:
        told += f"the GPU is full from {full:,} slots on"
    best = full or points[-1].slots
    return told if best <= entities else f"{told}, and {entities:,} entities do not fill the slots"


def full_from(points: Sequence[Point]) -> int | None:
    """The fewest slots of which the next ones make little more of; None where the last ones still do."""
    for point, more in pairwise(points):
        if more.measured.rows_per_s < WORTH * point.measured.rows_per_s:
            return point.slots
    return None


def _jit(jit: bool) -> str:
    return "true" if jit else "false"


def _rate(measured: Measured) -> str:
    return f"{measured.rows_per_s / 1e6:.3f}"


def _megabytes(point: Point) -> str:
    return f"{point.device_bytes / 1e6:.1f}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
