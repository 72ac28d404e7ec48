"""What the benchmark says of a GPU: spans of time, traces as TensorFlow's tracer writes them, tables and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from tests.bench.gpu import Point, Seen, full_from, memory_line, refusal, report
from tests.bench.intervals import covered, lengths, merged, shared, spans_of
from tests.bench.measure import PROFILED, SUBJECTS, Subject
from tests.bench.task import Measured, Task
from tests.bench.trace import complaints, gpu_trace, read_space
from tests.bench.workloads import WORKLOADS

some_spans = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)).map(lambda one: (one[0], one[0] + one[1])))


def _moments(pairs: list[tuple[int, int]]) -> set[int]:
    return {moment for begin, end in pairs for moment in range(begin, end)}


@given(some_spans, some_spans)
def test_spans_cover_the_moments_that_are_in_any_of_them(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    assert covered(spans_of(one)) == len(_moments(one))
    assert shared(spans_of(one), spans_of(other)) == len(_moments(one) & _moments(other))
    assert lengths(spans_of(one)) == sum(end - begin for begin, end in one)


@given(some_spans)
def test_merged_spans_are_apart_and_in_order(pairs: list[tuple[int, int]]) -> None:
    found = merged(spans_of(pairs))
    assert _moments([(begin, end) for begin, end in found.tolist()]) == _moments(pairs)
    assert (found[1:, 0] > found[:-1, 1]).all()


class Plane:
    """Writes a plane of an XSpace as TensorFlow's collector of CUPTI's events does: each text once, by a number."""

    def __init__(self, space: Any, name: str) -> None:
        self._plane = space.planes.add(name=name)

    def stream(self, number: int, kinds: str, timestamp_ns: int = 0) -> Callable[..., None]:
        """Adds the line of a stream, named after the kinds of its events."""
        return self.line(f"Stream #{number}({kinds})", timestamp_ns)

    def line(self, name: str, timestamp_ns: int = 0) -> Callable[..., None]:
        """Adds a line; what is returned adds an event to it, in microseconds."""
        line = self._plane.lines.add(name=name, timestamp_ns=timestamp_ns)

        def add(name: str, begin_us: int, end_us: int, **stats: str | int) -> None:
            number = self._number(self._plane.event_metadata, name)
            event = line.events.add(
                metadata_id=number, offset_ps=begin_us * 10**6, duration_ps=(end_us - begin_us) * 10**6
            )
            for key, value in stats.items():
                stat = event.stats.add(metadata_id=self._number(self._plane.stat_metadata, key))
                if isinstance(value, int):
                    stat.uint64_value = value
                else:
                    stat.ref_value = self._number(self._plane.stat_metadata, value)

        return add

    @staticmethod
    def _number(table: Any, name: str) -> int:
        for key, metadata in table.items():
            if metadata.name == name:
                return int(key)
        number = len(table) + 1
        table[number].id, table[number].name = number, name
        return number


DETAILS = "regs:128 static_shared:0 dynamic_shared:0 grid:4,1,1 block:256,1,1 occ_pct:25"
LSTM = "void LSTM_elementWise_fp<float, float, float, (cudnnRNNBiasMode_t)2>(int, int, int, int, float const*)"
H2D = "kind_src:{} kind_dst:device size:{} dest:0 async:1"
EPOCH_NS = 1_790_000_000_000_000_000  # times that are not made relative must not overflow


def _space() -> Any:
    """Kernels at 100-200, 150-250 and 400-500 us, of which the last is no cuDNN's; copies at 0-50 and 180-280."""
    space = XSpace()
    Plane(space, "/host:CPU").line("python")("PjitFunction", 0, 10_000)
    plane = Plane(space, "/device:GPU:0")
    compute = plane.stream(13, "Compute,Memset,MemcpyD2D", EPOCH_NS)
    compute("ampere_sgemm_128x64_tn", 100, 200, kernel_details=DETAILS, tf_op="lstm/CudnnRNNV3", correlation_id=7)
    compute("Memset 2", 300, 310, Memset_details="kind:device num_bytes:64 async:1")
    compute("fusion_12", 400, 500, kernel_details=DETAILS, tf_op="XlaLaunch", hlo_op="fusion.12")
    other = plane.stream(17, "Compute", EPOCH_NS)
    other(LSTM, 150, 250, kernel_details=DETAILS)
    upload = plane.stream(14, "MemcpyH2D", EPOCH_NS)
    upload("MemcpyH2D", 0, 50, memcpy_details=H2D.format("pageable", 1_000))
    upload("MemcpyH2D", 180, 280, memcpy_details=H2D.format("pinned", 3_000))
    plane.stream(15, "MemcpyD2H", EPOCH_NS)("MemcpyD2H", 520, 530, memcpy_details="kind_src:device size:8")
    plane.line("XLA Modules", EPOCH_NS)("jit_step", 0, 10_000, kernel_details=DETAILS)
    return space


def test_a_trace_says_when_the_gpu_computes_and_what_is_copied_meanwhile() -> None:
    found = gpu_trace(_space())
    assert found is not None
    us = 1e-6
    assert found.span_s == pytest.approx(530 * us)
    assert found.computing_s == pytest.approx(250 * us)
    assert found.kernel_s == pytest.approx(300 * us)
    assert found.cudnn_s == pytest.approx(200 * us)
    assert found.upload_s == pytest.approx(150 * us)
    assert found.hidden_s == pytest.approx(70 * us)
    assert (found.upload_bytes, found.pageable_bytes) == (4_000, 1_000)
    assert list(found.longest) == ["ampere_sgemm_128x64_tn", "fusion_12", LSTM]


@pytest.mark.parametrize(
    ("name", "op", "is_cudnn"),
    [
        ("void RNN_blockPersist_fp_LSTM<float, float, float, 1, 64>(PersistentParams)", "", True),
        ("void elemWiseRNNcell<float, float, float, (cudnnRNNMode_t)2>(int)", "", True),
        ("void GRU_elementWise_fp<float, float, float>(int, int)", "", True),
        ("cutlass_80_simt_sgemm_64x64_8x5_tn_align1", "model/memory/CudnnRNNV3", True),
        ("cutlass_80_simt_sgemm_64x64_8x5_tn_align1", "XlaLaunch", False),
        ("gemm_fusion_dot_7", "", False),
        ("void tensorflow::BiasNHWCKernel<float>(int, float const*)", "model/score/BiasAdd", False),
    ],
)
def test_kernels_of_cudnn_are_told_by_their_op_or_their_name(name: str, op: str, is_cudnn: bool) -> None:
    space = XSpace()
    stats = {"kernel_details": DETAILS} | ({"tf_op": op} if op else {})
    Plane(space, "/device:GPU:0").stream(13, "Compute")(name, 0, 10, **stats)
    found = gpu_trace(space)
    assert found is not None
    assert found.cudnn_s == pytest.approx(1e-5 if is_cudnn else 0)


def test_a_cuda_graph_counts_as_computing() -> None:
    space = XSpace()
    add = Plane(space, "/device:GPU:0").stream(13, "CudaGraph")
    add("CudaGraphExec:4", 10, 30, cuda_graph_exec_id=4)
    found = gpu_trace(space)
    assert found is not None
    assert found.computing_s == pytest.approx(20e-6)


def test_of_several_gpus_the_one_that_computed_is_told() -> None:
    space = XSpace()
    Plane(space, "/device:GPU:0").stream(7, "MemcpyH2D")("MemcpyH2D", 0, 5_000, memcpy_details="size:1")
    Plane(space, "/device:GPU:1").stream(7, "Compute")("fusion", 0, 10, kernel_details=DETAILS)
    found = gpu_trace(space)
    assert found is not None
    assert (found.upload_bytes, list(found.longest)) == (0, ["fusion"])


def test_what_the_profiler_complains_of_is_told(tmp_path: Path) -> None:
    space = _space()
    space.warnings.append("Dropped 12 events")
    (tmp_path / "plugins" / "profile" / "now").mkdir(parents=True)
    (tmp_path / "plugins" / "profile" / "now" / "host.xplane.pb").write_bytes(space.SerializeToString())
    again = read_space(tmp_path)
    assert gpu_trace(again) == gpu_trace(space)
    assert complaints(again) == ["Dropped 12 events"]


def test_a_trace_without_a_gpu_says_nothing_of_one() -> None:
    space = XSpace()
    Plane(space, "/host:CPU").stream(1, "Compute")("MatMul", 0, 10, kernel_details=DETAILS)
    Plane(space, "/device:GPU:0")
    assert gpu_trace(space) is None


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(WORKLOADS["FULL"], tmp_path / "in", tmp_path / "model", tmp_path / "out", gpus=1.0)


def _rate(slots: int, jit: bool) -> float:
    """Twice the slots double it up to 1,024, or 512 under XLA."""
    return 1e6 * min(slots, 512 if jit else 1_024) / 256


def _gpu(subject: Subject, task: Task) -> Measured:
    """A GPU whose figures are known: 20 kB a slot above 5 MB, and the trace of `_space` without XLA."""
    slots, jit = task.workload.slots, task.workload.jit
    notes: dict[str, Any] = {"device_bytes": 5_000_000 + 20_000 * slots, "kernel": "layers", "planes": ["/host:CPU"]}
    assert task.replicas == 1
    if subject is PROFILED:
        trace = gpu_trace(_space())
        assert trace is not None
        notes["gpu"] = json.loads(json.dumps(asdict(replace(trace, cudnn_s=0.0) if jit else trace)))
        notes["complaints"] = ["Dropped 3 events"] if jit else []
        return Measured(1e-3, 4_000, notes=notes)
    assert subject is SUBJECTS["own-step"]
    if slots > 4_096:
        raise RuntimeError("own-step failed: a traceback\nResourceExhaustedError: out of memory")
    return Measured(1.0, int(_rate(slots, jit)), notes=notes)


def test_the_report_says_how_busy_the_gpu_is_and_which_slots_fill_it(task: Task) -> None:
    said = list(report(task, _gpu, (256, 512, 1_024, 2_048, 8_192)))
    busy = "25.0 % | 47.2 %"
    assert f"| true | 256 | 4.000 | {busy} | 0.0 % | 0.0 | 46.7 % | 25.0 % | 10.1 |" in said
    assert f"| false | 512 | 4.000 | {busy} | 66.7 % | 0.0 | 46.7 % | 25.0 % | 15.2 |" in said
    assert "model.jit = true, 256 slots: the profiler says: Dropped 3 events" in said
    assert any(line.startswith("model.jit = true: no cuDNN kernel; the step is 'layers'") for line in said)
    assert any(line.startswith("model.jit = false: cuDNN path, 66.7 % of kernel time") for line in said)
    assert "model.jit = false: 20.0 kB of GPU memory per slot, and 5.0 MB without" in said
    assert "| false | 1,024 | 4.000 | 2.00 | 25.5 |" in said
    assert "| false | 2,048 | 4.000 | 1.00 | 46.0 |" in said
    assert "8,192 slots do not run: ResourceExhaustedError: out of memory" in said
    assert "model.jit = true: the GPU is full from 512 slots on" in said
    assert "model.jit = false: the GPU is full from 1,024 slots on" in said


def test_the_report_says_where_slots_are_too_few_for_the_gpu_or_entities_for_the_slots(task: Task) -> None:
    few = replace(task, workload=replace(task.workload, entities=300))
    said = list(report(few, _gpu, (256, 512)))
    assert "model.jit = false: 512 slots do not fill the GPU, and 300 entities do not fill the slots" in said


def test_the_heads_of_the_report_have_as_many_columns_as_their_lines(task: Task) -> None:
    bars = {line.count("|") for line in report(task, _gpu, (256,)) if line.startswith("|")}
    assert bars == {11, 6}


def _points(rates: list[float]) -> list[Point]:
    return [Point(True, 2**index, Measured(1.0, int(rate), notes={})) for index, rate in enumerate(rates)]


def test_a_gpu_is_full_where_twice_the_slots_give_little_more() -> None:
    assert full_from(_points([100, 200, 390, 420, 425])) == 4
    assert full_from(_points([100, 200, 390])) is None
    assert full_from(_points([100])) is None


def test_memory_is_split_into_what_a_slot_takes_and_the_rest() -> None:
    held = {4: 3_000_000, 8: 3_010_000}
    points = [Point(False, slots, Measured(1, 1, notes={"device_bytes": held[slots]})) for slots in held]
    assert memory_line(*points) == "model.jit = false: 2.5 kB of GPU memory per slot, and 3.0 MB without"


@pytest.mark.parametrize(
    ("seen", "replicas", "hidden", "said"),
    [
        (Seen((), "2.21.0", None), 1, None, "built without CUDA, sees 0: install the extra `gpu` and NVIDIA's driver"),
        (Seen((), "2.21.0", "12.5.1"), 1, "", "sees 0: unset CUDA_VISIBLE_DEVICES, which is '', or install"),
        (
            Seen(("NVIDIA A10",), "2.21.0", "12.5.1"),
            2,
            "0",
            "each of 2 replicas, but TensorFlow 2.21.0, built for CUDA",
        ),
        (Seen(("NVIDIA A10",), "2.21.0", "12.5.1"), 2, None, "sees 1: give --replicas as many, or leave --gpu out"),
    ],
)
def test_too_few_gpus_are_one_sentence(
    seen: Seen, replicas: int, hidden: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    sentence = refusal(seen, replicas)
    assert sentence is not None
    assert said in sentence
    assert sentence.endswith("or leave --gpu out to measure on CPUs.")


def test_as_many_gpus_as_replicas_are_enough() -> None:
    assert refusal(Seen(("NVIDIA A10", "NVIDIA A10"), "2.21.0", "12.5.1"), 2) is None
