"""TensorFlow, imported late and with a fixed number of threads; and the clock and memory of a process."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE_S = 0.5


def tensorflow(threads: int, *, gpu: bool = False) -> Any:
    """TensorFlow on `threads` threads; a process that has used it before keeps what it has."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from lstm_core.step.tensorflow_setup import configure_devices

    with suppress(RuntimeError):
        configure_devices(threads=threads, gpu=gpu)
    return tf


def resident_bytes() -> int:
    """The most memory that this process ever had in RAM."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def device_bytes() -> int:
    """The most memory of its GPU that this process ever used for tensors and workspaces; 0 where it sees no GPU."""
    import tensorflow as tf

    if not tf.config.get_visible_devices("GPU"):
        return 0
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


@dataclass
class Peak:
    """The most memory that any one of the watched processes ever had in RAM."""

    bytes: int = 0


@contextmanager
def watched(title: str) -> Iterator[Peak]:
    """Watches the processes whose command line begins with `title`, Ray's actors for instance."""
    peak, ended = Peak(), threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            peak.bytes = max([peak.bytes, *(_high_water(pid) for pid in _titled(title))])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield peak
    ended.set()
    thread.join()


def _titled(title: str) -> list[Path]:
    """The descendants of this process of that title; another run's actors look just like them."""
    parents, titled = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):  # it may end at any moment
            parents[folder.name] = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if (folder / "cmdline").read_bytes().startswith(title.encode()):
                titled.append(folder)
    return [folder for folder in titled if _descends(folder.name, parents)]


def _descends(pid: str, parents: dict[str, str]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == str(os.getpid()):
            return True
    return False


def _high_water(folder: Path) -> int:
    with suppress(OSError):
        for line in (folder / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
