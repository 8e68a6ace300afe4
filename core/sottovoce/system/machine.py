"""Description of the machine and library versions for measurements, and memory use of the process."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_PAUSE_SOFT = 1
"""Value of OpenMP's omp_pause_soft."""
_PAGE_OUT = 21
"""Value of Linux's MADV_PAGEOUT."""
_DONT_NEED = 4
"""Value of Linux's MADV_DONTNEED."""

LIBRARIES = ("sottovoce", "torch", "transformers", "torchao", "funasr", "modelscope", "huggingface-hub", "onnxruntime")


def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that results depend on, by name."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, threads in use, operating system and versions."""
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def reset_peak_memory() -> None:
    """Reset the peaks of the GPUs' memory and, on Linux, of resident memory."""
    for device in _gpus():
        sys.modules["torch"].cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory() -> int | None:
    """Return the peak resident memory in bytes since :func:`reset_peak_memory`; ``None`` if it is not known."""
    return _status("VmHWM:")


def peak_gpu_memory() -> int | None:
    """Return the peak bytes of PyTorch's memory on all GPUs since :func:`reset_peak_memory`; ``None`` without GPU."""
    return sum(sys.modules["torch"].cuda.max_memory_allocated(device) for device in _gpus()) or None


def _gpus() -> range:
    """Return the numbers of the GPUs that this process can use, if it has used any."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return range(cuda.device_count()) if cuda is not None and cuda.is_initialized() else range(0)


def resident_memory() -> int | None:
    """Return the resident memory of this process in bytes; ``None`` if it is not known."""
    return _status("VmRSS:")


def available_memory() -> int | None:
    """Return the bytes that the system can give a process without swapping; ``None`` if they are not known."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def release_memory() -> None:
    """Return freed memory to the system if the C library would keep it (glibc)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_threads() -> None:
    """End the worker threads of the calling thread, if the OpenMP library can (GNU's).

    A thread that ran a parallel region keeps its workers. Once there are more workers than cores, the library lets all
    waiting workers of the process sleep at once, which makes every parallel region slow.
    """
    for library in _openmp():
        with contextlib.suppress(AttributeError):
            library.omp_pause_resource_all(_PAUSE_SOFT)


def openmp_threads() -> int:
    """Return how many threads PyTorch's parallel regions have in the calling thread; 1 without GNU's library."""
    return max((int(library.omp_get_max_threads()) for library in _openmp_of_pytorch()), default=1)


def set_openmp_threads(count: int) -> None:
    """Set how many threads PyTorch's parallel regions have in the calling thread, and in no other."""
    for library in _openmp_of_pytorch():
        library.omp_set_num_threads(count)


def _openmp_of_pytorch() -> list[ctypes.CDLL]:
    """Return PyTorch's OpenMP library: others, such as scikit-learn's, have numbers of threads of their own."""
    folder = str(Path(sys.modules["torch"].__file__ or "").parent)
    return [library for library in _openmp() if library._name.startswith(folder) or len(_openmp()) == 1]


@functools.cache
def _openmp() -> tuple[ctypes.CDLL, ...]:
    """Return the OpenMP libraries that the process has loaded."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    paths = sorted({line.split()[-1] for line in lines if "libgomp" in line.rpartition("/")[2]})
    return tuple(ctypes.CDLL(path) for path in paths)


def release_pages(tensor: Tensor) -> None:
    """Release the pages of a tensor in a mapped file, if the system can (Linux); they are read again on use.

    Values are never lost: pages that do not belong to a file are written to swap at most.
    """
    if tensor.device.type != "cpu" or not tensor.nbytes:
        return
    size = mmap.PAGESIZE
    begin, end = -(-tensor.data_ptr() // size) * size, (tensor.data_ptr() + tensor.nbytes) // size * size
    with contextlib.suppress(OSError, AttributeError):
        if end > begin:
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _PAGE_OUT)


def release_file(path: Path) -> None:
    """Release the pages of a file that is mapped privately, if the system can (Linux); they are read again on use.

    Unlike :func:`release_pages`, this leaves them in the system's cache, where the next reader finds them. What was
    written to such pages is lost: only for files whose tensors nobody has changed.
    """
    ending = f" {path.resolve()}\n"
    with contextlib.suppress(OSError, AttributeError), Path("/proc/self/maps").open(encoding="utf-8") as maps:
        for line in maps:
            span, permissions = line.split(maxsplit=2)[:2]
            if line.endswith(ending) and permissions.endswith("p"):
                begin, end = (int(address, 16) for address in span.split("-"))
                ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONT_NEED)


def _status(key: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
