"""Inputs that wait: in memory up to a limit, on disk above it, and always the same values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from core.drawn import normal
from sottovoce.calibration.activation_cache import ActivationCache

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[ActivationCache]:
    """Without any room in memory."""
    held = ActivationCache(0, tmp_path)
    yield held
    held.close()
    assert not list(tmp_path.iterdir())


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def in_memory(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > 0


@given(
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4),
    rows=st.integers(1, 9),
    limit=st.sampled_from([None, 0, 100, 10**6]),
    seed=st.integers(0, 99),
)
def test_held_tensors_are_released_unchanged(
    dtypes: list[torch.dtype], rows: int, limit: int | None, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("held")
    tensors = [(normal(rows, 7, seed=seed + number) * 9).to(dtype) for number, dtype in enumerate(dtypes)]
    before = [tensor.clone() for tensor in tensors]
    inputs = (tuple(tensors[:1]), {"rest": tensors[1:], "flag": True, "nothing": None})
    held = ActivationCache(limit, directory)
    held.hold(inputs, output=tensors)
    for _ in range(2):
        assert held.borrow(inputs) is inputs
        assert all(found.equal(want) for found, want in zip(tensors, before, strict=True))
        held.give_back(inputs)
    held.release(inputs)
    assert all(found.equal(want) for found, want in zip(tensors, before, strict=True))
    assert not files(directory)
    held.close()
    assert not list(directory.iterdir())


def test_tensors_over_the_limit_are_written_to_disk(tmp_path: Path) -> None:
    tensors = [normal(25, seed=number) for number in range(4)]
    held = ActivationCache(200, tmp_path)
    for tensor in tensors:
        held.hold(tensor, output=tensor)
    assert [in_memory(tensor) for tensor in tensors] == [True, True, False, False]
    assert held.spilled_bytes == 200
    assert sum(path.stat().st_size for path in files(tmp_path)) == 200
    held.release(tensors[0])
    late = normal(25)
    held.hold(late, output=late)
    assert in_memory(late)
    held.close()


def test_cache_without_limit_writes_nothing_to_disk(tmp_path: Path) -> None:
    held, tensor = ActivationCache(None, tmp_path), normal(1000)
    held.hold(tensor, output=tensor)
    assert in_memory(tensor)
    assert held.spilled_bytes == 0
    assert not list(tmp_path.iterdir())


def test_tensors_that_are_no_output_stay_in_memory(on_disk: ActivationCache) -> None:
    held, own, table = on_disk, normal(10), normal(20)
    held.hold((own, table), output=own)
    assert not in_memory(own)
    assert in_memory(table)
    other = normal(5)
    held.hold(other)
    assert in_memory(other)


def test_parameters_stay_in_memory(on_disk: ActivationCache) -> None:
    held, weight = on_disk, nn.Parameter(normal(10))
    held.hold(weight, output=weight)
    assert in_memory(weight.data)
    assert held.spilled_bytes == 0


def test_storage_shared_with_numpy_stays_in_memory(on_disk: ActivationCache) -> None:
    held, tensor = on_disk, torch.from_numpy(normal(10).numpy())
    held.hold(tensor, output=tensor)
    assert in_memory(tensor)
    held.release(tensor)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.t(),
        lambda x: x[1:, ::2],
        lambda x: x.expand(3, 6, 8),
        lambda x: x.view(-1),
    ],
    ids=["transposed", "strided", "expanded", "flat"],
)
def test_views_are_released_unchanged(view: Any, on_disk: ActivationCache) -> None:
    base = normal(6, 8)
    tensor = view(base)
    before, whole = tensor.clone(), base.clone()
    held = on_disk
    held.hold((tensor, base), output=tensor)
    assert held.spilled_bytes == 6 * 8 * 4
    assert not in_memory(base)
    held.borrow(tensor)
    assert tensor.equal(before)
    assert base.equal(whole)
    held.give_back(tensor)
    held.release((tensor, base))
    assert base.equal(whole)


def test_shared_tensor_is_kept_until_its_last_owner_releases_it(on_disk: ActivationCache, tmp_path: Path) -> None:
    held, shared, own = on_disk, normal(10), [normal(10, seed=1), normal(10, seed=2)]
    before = shared.clone()
    for each in own:
        held.hold((each, shared), output=(each, shared))
    assert held.spilled_bytes == 3 * 40
    held.release((own[0], shared))
    assert shared.equal(before)
    assert len(files(tmp_path)) == 2
    held.borrow((own[1], shared))
    held.give_back((own[1], shared))
    held.release((own[1], shared))
    assert shared.equal(before)
    assert not files(tmp_path)


def test_inference_tensors_are_held_and_released_unchanged(on_disk: ActivationCache) -> None:
    with torch.inference_mode():
        tensor = normal(10) * 2
    before, held = tensor.clone(), on_disk
    held.hold(tensor, output=tensor)
    assert not in_memory(tensor)
    held.release(tensor)
    assert tensor.equal(before)


def test_empty_and_meta_tensors_are_accepted(on_disk: ActivationCache) -> None:
    held = on_disk
    inputs = (torch.empty(0, 3), torch.empty(2, 3, device="meta"), "text", 3)
    held.hold(inputs, output=inputs)
    held.borrow(inputs)
    held.give_back(inputs)
    held.release(inputs)


def test_close_removes_the_files_and_may_be_repeated(tmp_path: Path) -> None:
    held, tensor = ActivationCache(0, tmp_path), normal(10)
    held.hold(tensor, output=tensor)
    assert files(tmp_path)
    held.close()
    held.close()
    assert not list(tmp_path.iterdir())
