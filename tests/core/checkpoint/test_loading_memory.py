"""Loading takes the memory of the weights once: copied part by part, into modules that had none, packed at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.drawn import linear, normal, rounded
from sottovoce.checkpoint import weights
from sottovoce.checkpoint.weights import copy_tensors, leave_file_, load_strictly_, without_memory
from sottovoce.errors import SourceError
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import onednn
from sottovoce.runtime.backends.int8_engine import engine
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.layers import from_quantized, pack_

STATE = {
    "a.weight": torch.arange(600.0).reshape(20, 30),
    "a.bias": torch.ones(20, dtype=torch.bfloat16),
    "a.steps": torch.arange(-60, 60, dtype=torch.int8).reshape(4, 30),
    "embed.weight": torch.arange(90.0).reshape(30, 3),
    "nothing": torch.zeros(0, 3),
    "one": torch.tensor(7, dtype=torch.int64),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(STATE, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def same(found: dict[str, Tensor], path: Path) -> bool:
    wanted = load_file(path)
    return found.keys() == wanted.keys() and all(
        found[name].equal(tensor) and found[name].dtype == tensor.dtype for name, tensor in wanted.items()
    )


@pytest.mark.parametrize("part", [1, 100, 2500, 10**9])
@pytest.mark.parametrize("mapped", [(), ("embed.weight",), ("embed.weight", "elsewhere"), tuple(STATE)])
def test_copied_tensors_equal_the_file(
    mapped: tuple[str, ...], part: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_PART_BYTES", part)
    assert same(copy_tensors(path, mapped), path)


def test_copied_tensors_outlive_the_file(path: Path) -> None:
    wanted = load_file(path)
    found = copy_tensors(path)
    path.write_bytes(b"0" * path.stat().st_size)
    path.unlink()
    assert all(tensor.equal(STATE[name]) for name, tensor in found.items())
    assert found.keys() == wanted.keys()
    memory = [tensor.untyped_storage().data_ptr() for tensor in found.values() if tensor.numel()]
    assert len(set(memory)) == len(memory)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in found.values())


def test_file_without_tensors_gives_an_empty_mapping(tmp_path: Path) -> None:
    save_file({}, tmp_path / "none.safetensors")
    assert copy_tensors(tmp_path / "none.safetensors") == {}


@pytest.mark.parametrize("size", [1, 7, 60, 700, -1])
def test_damaged_file_is_one_line(size: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(SourceError, match=r"model\.safetensors: the weights are damaged \(") as caught:
        copy_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (None, r"the weights are missing \(no model\.safetensors\)"),
    ],
)
def test_file_that_is_not_weights_is_named(content: bytes | None, problem: str, path: Path) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=problem):
        copy_tensors(path)


class Tied(nn.Module):
    """Two layers of one weight, a buffer, a tensor that is no parameter, and a parameter that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(5)
        self.plain = torch.ones(3)
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_parameter("none", None)
        self.register_buffer("positions", torch.arange(5), persistent=False)


def test_parameters_have_no_memory_and_buffers_do() -> None:
    with without_memory():
        module = Tied()
    assert all(parameter.is_meta for parameter in module.parameters())
    assert {name: list(parameter.shape) for name, parameter in module.named_parameters()} == {
        name: list(parameter.shape) for name, parameter in Tied().named_parameters()
    }
    assert not any(buffer.is_meta for buffer in module.buffers())
    assert module.positions.tolist() == [0, 1, 2, 3, 4]  # type: ignore[operator, union-attr]
    assert module.norm.running_var.tolist() == [1.0] * 5  # type: ignore[union-attr]
    assert module.plain.tolist() == [1.0] * 3
    assert (module.fixed.requires_grad, module.none) == (False, None)


def test_tied_parameters_stay_tied() -> None:
    with without_memory():
        module = Tied()
    assert module.head.weight is module.embed.weight
    state = {name: torch.ones_like(tensor) for name, tensor in Tied().state_dict().items()}
    load_strictly_(module, state, "here")
    assert not any(parameter.is_meta for parameter in module.parameters())
    assert module.head(module.embed(torch.tensor([1]))).tolist() == [[3.0] * 5]


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()], ids=repr)
def test_modules_have_memory_after_the_context(error: BaseException) -> None:
    register = nn.Module.register_parameter
    with pytest.raises(type(error)), without_memory():
        assert nn.Linear(2, 2).weight.is_meta
        raise error
    assert nn.Module.register_parameter is register
    assert not any(parameter.is_meta for parameter in Tied().parameters())


def int8_layers() -> nn.Module:
    schemes = Scheme(activations="dynamic", strategy="token"), Scheme(activations="dynamic", strategy="tensor")
    layers = [linear(64, 48), linear(48, 64, False)]
    made = [from_quantized(layer, *rounded(layer, scheme)) for layer, scheme in zip(layers, schemes, strict=True)]
    return nn.Sequential(*made, from_quantized(linear(64, 32), *rounded(linear(64, 32), Scheme(bits=4, group_size=32))))


@pytest.mark.skipif(not onednn.supported() or engine() != "onednn", reason="oneDNN does not run here")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kept_bytes", [0, 64_000_000])
def test_packing_keeps_the_weights_values(kept_bytes: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.runtime.layers._KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    module, plain = int8_layers().eval(), int8_layers().eval()
    state = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    pack_(module)
    layers = [layer for layer in module if isinstance(layer, Int8Linear)]
    assert len(layers) == 2
    assert not any("weight" in dict(layer.named_buffers()) for layer in layers)
    found = module.state_dict()
    assert found.keys() == state.keys()
    assert all(tensor.equal(state[name]) for name, tensor in found.items())
    with torch.inference_mode():
        assert module(normal(3, 64)).equal(plain(normal(3, 64)))
    packed = [layer.packed() for layer in layers]
    pack_(module)
    assert [layer.packed() for layer in layers] == packed


@pytest.mark.skipif(not onednn.supported() or engine() != "onednn", reason="oneDNN does not run here")
@pytest.mark.parametrize("threads", [1, 3])
def test_error_while_packing_is_raised_and_no_thread_stays(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = onednn.pack

    def fail(weight: Tensor, scale: Tensor, bias: Tensor | None = None) -> onednn.PackedWeight:
        if weight.shape[0] == 64:
            raise RuntimeError("no memory is left")
        return pack(weight, scale, bias)

    monkeypatch.setattr(onednn, "pack", fail)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    module = int8_layers()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="no memory is left"):
        pack_(module)
    assert set(threading.enumerate()) <= before
    assert all(tensor.equal(state[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("part", [0, 10**9])
def test_a_module_leaves_its_file_with_the_values_that_it_had(
    part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sottovoce.runtime.layers._KEPT_BYTES", part)
    monkeypatch.setattr(weights, "_PART_BYTES", part)
    module, path = int8_layers().eval(), tmp_path / "model.safetensors"
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_file(state, path)
    load_strictly_(module, load_file(path), "here")
    pack_(module, path)
    leave_file_(module, path)
    path.write_bytes(b"0" * path.stat().st_size)
    found = module.state_dict()
    assert found.keys() == state.keys()
    assert all(tensor.equal(state[name]) for name, tensor in found.items())


def test_modules_of_other_threads_have_memory() -> None:
    with without_memory(), ThreadPoolExecutor(1) as thread:
        theirs = thread.submit(nn.Linear, 2, 2).result()
        assert nn.Linear(2, 2).weight.is_meta
    assert not theirs.weight.is_meta
    assert theirs.weight.abs().sum() > 0
