"""Where kernels run, and what happens where they cannot."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sottovoce.errors import UsageError
from sottovoce.runtime.kernels import availability

needs_kernels = pytest.mark.skipif(not availability.available(), reason="kernels cannot be compiled here")


@pytest.fixture
def tried_anew() -> Iterator[None]:
    availability._obstacle.cache_clear()
    yield
    availability._obstacle.cache_clear()


def test_they_can_be_compiled_on_the_machines_that_tests_run_on() -> None:
    assert not sys.platform.startswith("linux") or availability.available()


@needs_kernels
def test_they_take_bfloat16_on_the_cpu_without_gradients() -> None:
    x = torch.ones(2, 2, dtype=torch.bfloat16)
    assert availability.takes(x, x)
    assert not availability.takes(x, x.float())
    assert not availability.takes(x.to("meta"))
    assert not availability.takes(x, x.clone().requires_grad_())
    with torch.no_grad():
        assert availability.takes(x, x.clone().requires_grad_())


def test_the_variable_leaves_all_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(availability.VARIABLE, "torch")
    assert not availability.available()
    assert availability.obstacle() == "SOTTOVOCE_KERNELS=torch"


def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(availability.VARIABLE, "tortoise")
    with pytest.raises(UsageError, match=r"^SOTTOVOCE_KERNELS=tortoise: no such kernels \(known: numba, torch\)$"):
        availability.available()


def test_without_numba_pytorch_serves(monkeypatch: pytest.MonkeyPatch, tried_anew: None) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert availability.obstacle() == "numba is not installed"
    monkeypatch.setenv(availability.VARIABLE, "numba")
    with pytest.raises(UsageError, match="^SOTTOVOCE_KERNELS=numba: numba is not installed; unset it$"):
        availability.available()


def test_other_threads_than_gnus_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch, tried_anew: None) -> None:
    def fail() -> None:
        raise AttributeError("undefined symbol: GOMP_parallel")

    monkeypatch.setattr(availability, "parallel", fail)
    assert "GNU's OpenMP" in availability.obstacle()


@needs_kernels
def test_a_compiler_that_fails_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tried_anew: None, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(x: torch.Tensor) -> None:
        raise RuntimeError("no such processor\nand more")

    monkeypatch.setattr("sottovoce.runtime.kernels.rows.quantize", fail)
    assert not availability.available()
    assert not availability.available()
    assert [record.getMessage() for record in caplog.records] == [
        "numba cannot compile here, so PyTorch's operators serve: RuntimeError: no such processor"
    ]


@needs_kernels
@pytest.mark.parametrize("found", [None, (torch.zeros(2, 4, dtype=torch.uint8), torch.ones(2, 1))])
def test_a_compiler_that_is_wrong_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tried_anew: None, found: object
) -> None:
    monkeypatch.setattr("sottovoce.runtime.kernels.rows.quantize", lambda x: found)
    assert availability.obstacle() == "what numba compiles is wrong here"


@needs_kernels
def test_threads_call_kernels_at_once() -> None:
    from sottovoce.runtime.kernels import rows

    drawn = [torch.randn(257, 512, generator=torch.Generator().manual_seed(n)).bfloat16() for n in range(4)]
    want = [rows.quantize(x) for x in drawn]
    wrong = []

    def run(number: int) -> None:
        for _ in range(20):
            found = rows.quantize(drawn[number])
            if found is None or not all(map(torch.equal, found, want[number] or ())):
                wrong.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@needs_kernels
def test_without_a_folder_to_write_to_they_are_compiled_for_the_process(tmp_path: Path) -> None:
    source = Path(availability.__file__).parent
    code = f"""
import numba.core.caching
numba.core.caching.FunctionCache._impl_class._locator_classes = []
from sottovoce.runtime.kernels import availability
print(availability.available(), availability.__file__.startswith({str(source)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_importing_brings_no_numba() -> None:
    code = "import sys, sottovoce.runtime.kernels.availability; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
