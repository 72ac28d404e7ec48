"""What a trace of TensorFlow's profiler says of a GPU: when it computes, on whose kernels, what is copied meanwhile.

The profiler writes an XSpace: a plane per GPU, in it a line per stream, on it an event per kernel and copy. An event is
told by its stats, since a kernel may have any name: `kernel_details`, `memcpy_details`, and `cuda_graph_exec_id` for a
whole CUDA graph. `tf_op` names the op that has launched a kernel, so the products inside cuDNN's LSTM count as its own.
Lines that are no stream, as those of XLA's modules, tell the same time once more and are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.intervals import Spans, covered, lengths, shared, spans_of

PLANE, LINE = "/device:GPU:", "Stream #"
KERNEL_STATS = {"kernel_details", "cuda_graph_exec_id"}
UPLOAD = "MemcpyH2D"
# Without an op's name: the kernels that cuDNN 8 and 9 run an LSTM or a GRU with.
CUDNN = re.compile(r"cudnn|RNN_(block)?[Pp]ersist|(LSTM|GRU)_elementWise|elemWiseRNNcell", re.IGNORECASE)
NAMED = 5  # kernels that are told by name
PS = 1e-12


@dataclass(frozen=True)
class GpuTrace:
    """What one GPU did in a trace; times in seconds."""

    span_s: float  # from the first to the end of the last event
    computing_s: float  # at least one kernel runs
    kernel_s: float  # of all kernels together
    cudnn_s: float  # of those of cuDNN's recurrent layers
    upload_s: float  # at least one copy from the host is under way
    hidden_s: float  # of that, while a kernel runs
    upload_bytes: int
    pageable_bytes: int  # of those, from memory that the GPU cannot read by itself
    longest: dict[str, float]  # seconds of the kernels that took most, by name


@dataclass(frozen=True)
class _Event:
    name: str
    begin_ps: int
    end_ps: int
    stats: dict[str, Any]

    @property
    def is_kernel(self) -> bool:
        return not KERNEL_STATS.isdisjoint(self.stats)

    @property
    def is_upload(self) -> bool:
        return self.name == UPLOAD

    @property
    def is_cudnn(self) -> bool:
        return "CudnnRNN" in str(self.stats.get("tf_op", "")) or CUDNN.search(self.name) is not None

    def detail(self, name: str) -> str:
        """One of the facts of a copy: "kind_src:pageable kind_dst:device size:524288 dest:0 async:1"."""
        found = re.search(rf"\b{name}:(\S+)", str(self.stats.get("memcpy_details", "")))
        return found[1] if found else ""

    @property
    def size(self) -> int:
        return int(self.detail("size") or 0)


def read_space(folder: Path) -> Any:
    """The XSpace that the profiler has written below `folder`."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    files = sorted(folder.rglob("*.xplane.pb"))
    assert len(files) == 1, f"{len(files)} traces in {folder}"
    return XSpace.FromString(files[0].read_bytes())


def gpu_trace(space: Any) -> GpuTrace | None:
    """What the GPU of an XSpace did, the one that computed most; None where it has no event of any."""
    traces = [_summed(events) for plane in space.planes if (events := list(_events(plane)))]
    return max(traces, key=lambda trace: trace.kernel_s, default=None)


def complaints(space: Any) -> list[str]:
    """What the profiler says against its own trace: that it has dropped events, or was not allowed to look."""
    return [*space.errors, *space.warnings]


def _events(plane: Any) -> Iterator[_Event]:
    lines = [line for line in plane.lines if line.name.startswith(LINE)] if plane.name.startswith(PLANE) else []
    named = {key: metadata.name for key, metadata in plane.stat_metadata.items()}
    origin_ns = min((line.timestamp_ns for line in lines), default=0)  # 64 bits do not hold picoseconds since 1970
    for line in lines:
        base_ps = (line.timestamp_ns - origin_ns) * 1000
        for event in line.events:
            begin_ps = base_ps + event.offset_ps
            stats = {named[stat.metadata_id]: _value(stat, named) for stat in event.stats}
            name = plane.event_metadata[event.metadata_id].name
            yield _Event(name, begin_ps, begin_ps + event.duration_ps, stats)


def _value(stat: Any, named: dict[int, str]) -> Any:
    kind = stat.WhichOneof("value")
    # A text that repeats is held once, as the name of another stat.
    return named[stat.ref_value] if kind == "ref_value" else getattr(stat, kind)


def _summed(events: list[_Event]) -> GpuTrace:
    kernels, uploads = [one for one in events if one.is_kernel], [one for one in events if one.is_upload]
    computing, copying = _spans(kernels), _spans(uploads)
    took: Counter[str] = Counter()
    for kernel in kernels:
        took[kernel.name] += kernel.end_ps - kernel.begin_ps
    return GpuTrace(
        span_s=(max(one.end_ps for one in events) - min(one.begin_ps for one in events)) * PS,
        computing_s=covered(computing) * PS,
        kernel_s=lengths(computing) * PS,
        cudnn_s=lengths(_spans([one for one in kernels if one.is_cudnn])) * PS,
        upload_s=covered(copying) * PS,
        hidden_s=shared(copying, computing) * PS,
        upload_bytes=sum(one.size for one in uploads),
        pageable_bytes=sum(one.size for one in uploads if one.detail("kind_src") == "pageable"),
        longest={name: time_ps * PS for name, time_ps in took.most_common(NAMED)},
    )


def _spans(events: list[_Event]) -> Spans:
    return spans_of([(event.begin_ps, event.end_ps) for event in events])
