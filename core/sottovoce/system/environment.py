"""Surroundings that decide how fast models run: instruction sets, memory, load, and what is not installed."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ENGINE_VARIABLE = "SOTTOVOCE_INT8_ENGINE"
"""Environment variable that chooses the engine of int8 products."""
THREADS_VARIABLE = "SOTTOVOCE_THREADS"
"""Environment variable: ``fixed`` keeps the number of threads also where other processes have the cores."""
INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instruction sets of x86 that multiply 8-bit integers without saturating in 16 bits."""
_TELLING = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Instruction sets of x86 and ARM that matter for products, as Linux names them."""


def instructions() -> list[str]:
    """Return the processor's instruction sets that matter here; none where the system does not tell (Linux does)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in _TELLING if name in flags]


def describe_surroundings() -> dict[str, Any]:
    """Return instruction sets, memory in bytes, the load of the last minute, and settings of threads."""
    memory = psutil.virtual_memory()
    prefixes = ("OMP_", "GOMP_", "MKL_", THREADS_VARIABLE)
    settings = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    return {
        "instructions": instructions(),
        "memory_bytes": memory.total,
        "available_memory_bytes": memory.available,
        "load": round(psutil.getloadavg()[0], 2),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "thread_settings": settings or None,
    }


def missing_extras(distribution: str) -> dict[str, list[str]]:
    """Return the extras of a distribution that are not installed, each with the packages that it lacks."""
    from packaging.requirements import Requirement

    installed = metadata.metadata(distribution)
    missing: dict[str, list[str]] = {}
    for extra in installed.get_all("Provides-Extra") or ():
        for text in metadata.requires(distribution) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.marker.evaluate({"extra": extra}) and not _is_installed(requirement.name):
                missing.setdefault(extra, []).append(requirement.name)
    return missing


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
