"""The machine and the versions that a measurement belongs to."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("tensorflow", "keras", "ray", "pyarrow", "numpy", "onnxruntime", "torch")


def describe() -> list[str]:
    """Lines that say what it was measured on."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"machine: {_processor()}, {os.cpu_count()} CPUs, {memory_bytes / 2**30:.0f} GiB, load before {load}",
        f"system: {platform.system()} {platform.release()}, Python {platform.python_version()}",
        "versions: " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    ]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
