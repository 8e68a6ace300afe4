"""Settings of the whole suite."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from sottovoce.entrypoints import evaluate
from sottovoce.system.interpreter import end_quickly

LONGEST = (
    "docs/test_blocks.py",
    "attack/test_attack.py",
    "hub/test_round_trip.py",
    "examples/test_presets.py",
    "examples/test_tiny_omni.py",
    "paraformer/test_conformance.py",
    "paraformer/test_onnx_export.py",
    "paraformer/test_onnx_clients.py",
    "paraformer/test_program_formats.py",
    "entrypoints/test_check.py",
    "core/test_on_gpu.py",
    "calibration/test_runner.py",
    "transformers/test_experts.py",
    "examples/test_several_processes.py",
)
"""Files that are begun first: where several processes share the work, the last to end should not be one of these.

``--durations 0`` says which they are.
"""


end_quickly()
evaluate.TIMED = 2  # samples that two models are timed on by turns: what is tested of times does not need twenty


def pytest_configure() -> None:
    """Hear interruptions in a job in the background too: a shell has such jobs ignore them, and they inherit it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get("/".join(item.path.parts[-2:]), len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[object]:
    """Give back the number of threads after each test: FunASR's ``AutoModel`` sets it, and results depend on it."""
    threads = torch.get_num_threads()
    try:
        return (yield)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(params=["numba", "torch"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A test runs twice: with compiled kernels, and with PyTorch's operators in their place."""
    from sottovoce.runtime.kernels import availability

    if request.param == "numba" and not availability.available():
        pytest.skip("kernels cannot be compiled here")
    monkeypatch.setenv(availability.VARIABLE, request.param)
    return str(request.param)


# The first example of a test may import torch; time says nothing about what is tested here.
settings.register_profile("sottovoce", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile("sottovoce")
