"""Reproducibility: deterministic algorithms, and the versions of software below PyTorch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

_NVIDIA = Path("/proc/driver/nvidia/version")
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without this setting cuBLAS may change its order of summation (its documentation, "Results reproducibility")."""


@contextmanager
def deterministic_algorithms(on: bool) -> Iterator[None]:
    """In this context, if ``on``, PyTorch uses only deterministic algorithms.

    For an operation without one, PyTorch raises ``RuntimeError`` with its name. cuBLAS reads its setting when the
    process first uses the device.
    """
    if not on:
        yield
        return
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def software_of(device: torch.device) -> dict[str, str]:
    """The versions of drivers and libraries below PyTorch, as far as known; none for a CPU.

    PyTorch's own version is part of a run's identity (``pixelsmith.run.Identity``).
    """
    found: dict[str, str | None] = {}
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found = {
            "driver": _nvidia_driver(),
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "cudnn": str(cudnn or ""),
        }
    elif device.type == "xpu":
        found = {"driver": str(torch.xpu.get_device_properties(device).driver_version)}
    return {name: value for name, value in found.items() if value}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """The versions that have changed, for messages."""
    names = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    unknown = "unknown"
    return ", ".join(f"{name} {before.get(name, unknown)} is now {now.get(name, unknown)}" for name in names) or None


def _nvidia_driver() -> str | None:
    try:
        said = re.search(r"\d+\.\d+(\.\d+)?", _NVIDIA.read_text())
    except OSError:
        return None
    return said and said.group()
