"""What makes a compressed aligner fast on the CPU changes nothing of what it says, and nothing of what is written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sottovoce
from plugins.forced_aligner.tiny import make_model, make_native, make_processor
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import instructions, onednn
from sottovoce.runtime.backends.int8_engine import engine
from sottovoce.runtime.int8_linear import Int8Linear, share_rounding_
from sottovoce_forced_aligner import attention
from sottovoce_forced_aligner.attention import attend
from sottovoce_forced_aligner.optimization import optimize_for_inference

needs_bfloat16 = pytest.mark.skipif(not instructions.bfloat16(), reason="the processor multiplies no bfloat16")
needs_onednn = pytest.mark.skipif(
    not onednn.supported() or engine() != "onednn", reason="int8 products by oneDNN do not run here"
)
BLOCK = 128


class Layer(nn.Module):
    """What an attention function is told of its layer."""

    def __init__(self, size: int = 1, is_causal: bool = True) -> None:
        super().__init__()
        self.num_key_value_groups, self.is_causal = size, is_causal


def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def parts(batch: int, heads: int, groups: int, length: int, keys: int | None = None, **options: Any) -> list[Tensor]:
    shapes = ((heads, length), (groups, keys or length), (groups, keys or length))
    return [drawn(batch, *shape, 32, seed=seed, **options) for seed, shape in enumerate(shapes)]


def library(layer: nn.Module, *tensors: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    result: Tensor = sdpa_attention_forward(layer, *tensors, mask, **options)[0]
    return result


def near(found: Tensor, exact: Tensor) -> bool:
    """As near as bfloat16 comes."""
    distance = (found.float() - exact).abs()
    return bool(distance.max() < 0.06) and bool(distance.mean() < 0.004)


class Blocks:
    """Counts how often attention runs in blocks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._blocks = 0, attention._blocks
        monkeypatch.setattr(attention, "_blocks", self)

    def __call__(self, *arguments: Any) -> Tensor:
        self.count += 1
        return self._blocks(*arguments)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> Blocks:
    return Blocks(monkeypatch)


@needs_bfloat16
@pytest.mark.parametrize("length", [2, 17, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_are_the_attention_of_the_library(
    causal: bool, batch: int, heads: int, groups: int, length: int, blocks: Blocks
) -> None:
    tensors = parts(batch, heads, groups, length)
    layer = Layer(heads // groups, causal)
    found, weights = attend(layer, *tensors, None)
    assert (blocks.count, weights) == (1, None)
    assert (found.shape, found.dtype) == ((batch, length, heads, 32), torch.bfloat16)
    exact = library(layer, *(tensor.float() for tensor in tensors))
    assert near(found, exact)


@needs_bfloat16
def test_scaling_and_what_the_call_says_of_causality_count(blocks: Blocks) -> None:
    tensors = parts(1, 4, 2, 150)
    for options in ({"scaling": 0.5}, {"is_causal": False}, {"is_causal": True, "scaling": 0.01}):
        found, _ = attend(Layer(2), *tensors, None, **options)
        exact = library(Layer(2), *(tensor.float() for tensor in tensors), **options)
        assert near(found, exact)
    assert blocks.count == 3


@needs_bfloat16
@pytest.mark.parametrize("length", [1, 7])
def test_queries_may_look_at_keys_of_another_count(length: int, blocks: Blocks) -> None:
    tensors = parts(2, 4, 2, length, 140)
    layer = Layer(2, is_causal=False)
    found, _ = attend(layer, *tensors, None)
    exact = library(layer, *(tensor.float() for tensor in tensors))
    assert near(found, exact)
    assert blocks.count == 1


def test_what_is_not_taken_goes_to_the_library(blocks: Blocks) -> None:
    mask = torch.ones(1, 1, 9, 9, dtype=torch.bool).tril(2)
    layer = Layer(2)
    for tensors, options in (
        (parts(1, 4, 2, 9, dtype=torch.float32), {}),
        (parts(1, 4, 2, 9, dtype=torch.float16), {}),
        (parts(1, 4, 2, 9), {"mask": mask}),
        (parts(1, 4, 2, 9), {"sliding_window": 4}),
        ([tensor.requires_grad_() for tensor in parts(1, 4, 2, 9)], {}),
        (parts(1, 4, 2, 3, 9), {}),  # causal, with keys from before
    ):
        given = options.pop("mask", None)
        found, _ = attend(layer, *tensors, given, **options)
        assert found.equal(library(layer, *tensors, mask=given, **options))
    assert blocks.count == 0


@needs_bfloat16
def test_without_the_instructions_all_goes_to_the_library(blocks: Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "bfloat16", lambda: False)
    tensors = parts(1, 4, 2, 9)
    assert attend(Layer(2), *tensors, None)[0].equal(library(Layer(2), *tensors))
    assert blocks.count == 0


@pytest.fixture(scope="module")
def batch() -> Any:
    noise = 0.1 * np.random.default_rng(0).standard_normal(4 * 16000).astype(np.float32)
    made, _ = make_processor().prepare_forced_aligner_inputs(
        audio=[noise], transcript=["打开客厅的灯"], language=["Chinese"]
    )
    return made


def logits(native: Any, batch: Any) -> Tensor:
    with torch.inference_mode():
        result: Tensor = native(**batch.to("cpu", native.dtype), use_cache=False).logits[0].float()
    return result


@pytest.mark.usefixtures("kernels")
def test_an_optimized_model_says_what_it_said(batch: Any, blocks: Blocks) -> None:
    native = make_native(make_processor(), torch.bfloat16)
    exact = logits(make_native(make_processor()), batch)
    before = logits(native, batch)
    state = {name: tensor.clone() for name, tensor in native.state_dict().items()}
    optimize_for_inference(native)
    after = logits(native, batch)
    layers = native.config.text_config.num_hidden_layers
    assert blocks.count >= (layers if instructions.bfloat16() and not instructions.tiles() else 0)
    # No farther from float32 than the library in the same precision.
    assert float((after - exact).norm()) <= 1.5 * float((before - exact).norm())
    assert native.state_dict().keys() == state.keys()
    assert all(tensor.equal(state[name]) for name, tensor in native.state_dict().items())


class Roundings:
    """Counts the tensors whose rows are rounded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._quantize = 0, onednn.quantize_rows
        monkeypatch.setattr(onednn, "quantize_rows", self)

    def __call__(self, x: Tensor) -> onednn.QuantizedRows | None:
        self.count += 1
        return self._quantize(x)


@pytest.fixture
def roundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Roundings]:
    yield Roundings(monkeypatch)


def int8_layers(count: int, strategy: Any = "token") -> list[nn.Module]:
    from sottovoce.runtime.qparams import compute_qparams

    made: list[nn.Module] = []
    for seed in range(count):
        layer = nn.Linear(64, 32)
        with torch.no_grad():
            layer.weight.copy_(drawn(32, 64, dtype=torch.float32, seed=seed))
            layer.bias.copy_(drawn(32, dtype=torch.float32, seed=seed))
        qparams = compute_qparams(layer.weight.detach(), Scheme(activations="dynamic", strategy=strategy))
        made.append(Int8Linear.from_quantized(layer, qparams.quantize(layer.weight.detach()), qparams))
    return made


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("kernels")
def test_layers_of_one_input_round_it_once(dtype: torch.dtype, roundings: Roundings) -> None:
    shared, alone = int8_layers(3), int8_layers(3)
    assert share_rounding_(*shared)
    inputs = [drawn(2, 5, 64, dtype=dtype, seed=seed) for seed in range(3)]
    for number, x in enumerate((*inputs, inputs[0]), 1):
        found = [layer(x) for layer in shared]
        assert roundings.count == number
        before, roundings.count = roundings.count, 0
        assert all(one.equal(layer(x)) for one, layer in zip(found, alone, strict=True))
        assert roundings.count == 3
        roundings.count = before


@needs_onednn
def test_sharing_takes_no_tensor_for_another(roundings: Roundings) -> None:
    shared, alone = int8_layers(2), int8_layers(2)
    share_rounding_(*shared)
    one, other = drawn(5, 64, dtype=torch.float32), drawn(5, 64, dtype=torch.float32, seed=9)
    for layer, x in ((0, one), (0, other), (1, one), (1, other), (0, one.clone()), (1, one.clone()), (1, one)):
        assert shared[layer](x).equal(alone[layer](x))
    x = drawn(5, 64, dtype=torch.float32)
    x[0, 0] = torch.inf
    assert shared[0](x)[1:].isfinite().all()


@pytest.mark.parametrize("layers", [int8_layers(2, "tensor"), [*int8_layers(1), nn.Linear(64, 32)]], ids=len)
def test_layers_of_another_kind_do_not_share(layers: list[nn.Module]) -> None:
    assert not share_rounding_(*layers)
    assert all(getattr(layer, "_shared", None) is None for layer in layers)


@needs_onednn
@pytest.mark.usefixtures("kernels")
def test_a_compressed_model_rounds_less_and_says_the_same(tmp_path: Path, batch: Any, roundings: Roundings) -> None:
    make_model(tmp_path / "model")
    model = sottovoce.load(tmp_path / "model")
    sottovoce.compress(model, "int8")
    roundings.count = 0
    shared = logits(model.native, batch)
    layers = [layer for layer in model.module.modules() if isinstance(layer, Int8Linear)]
    less, roundings.count = roundings.count, 0
    for layer in layers:
        layer.unpack_()._shared = None
    assert logits(model.native, batch).equal(shared)
    assert roundings.count == len(layers)
    # Two of queries, keys and values; and one of gate and up. In the first text layers the former stay float.
    stacks = model.native.config.audio_config.num_hidden_layers, model.native.config.text_config.num_hidden_layers
    assert less == len(layers) - 2 * stacks[0] - stacks[1] - 2 * max(0, stacks[1] - 2)


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("recipe", ["int8", "int8-weight"])
def test_nothing_of_it_is_written(recipe: str, tiles: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "tiles", lambda: tiles)
    attends = "sdpa" if tiles else attention.NAME
    make_model(tmp_path / "model", torch.bfloat16)
    model = sottovoce.load(tmp_path / "model")
    sottovoce.compress(model, recipe)
    assert model.native.config._attn_implementation == attends
    saved = sottovoce.save(model, tmp_path / "small")
    again = sottovoce.load(saved)
    assert again.native.config._attn_implementation == attends
    second = sottovoce.save(again, tmp_path / "again")
    for directory in (saved, second):
        assert attention.NAME not in (directory / "config.json").read_text()
    assert json.loads((saved / "config.json").read_text()) == json.loads((second / "config.json").read_text())
    states = [each.module.state_dict() for each in (model, again)]
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())


def test_loaded_int8_layers_are_packed_before_they_run(tmp_path: Path) -> None:
    make_model(tmp_path / "model", torch.bfloat16)
    model = sottovoce.load(tmp_path / "model")
    sottovoce.compress(model, "int8")
    again = sottovoce.load(sottovoce.save(model, tmp_path / "small"))
    layers = [layer for layer in again.module.modules() if isinstance(layer, Int8Linear)]
    assert layers
    if engine() == "onednn":
        assert not any("weight" in dict(layer.named_buffers()) for layer in layers)


def test_optimizing_twice_is_optimizing_once(batch: Any) -> None:
    native = make_native(make_processor(), torch.bfloat16)
    optimize_for_inference(native)
    kinds, want = [type(each) for each in native.modules()], logits(native, batch)
    optimize_for_inference(native)
    assert [type(each) for each in native.modules()] == kinds
    assert logits(native, batch).equal(want)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not say what is mapped")
@pytest.mark.parametrize("embeddings", ["int8", "keep"])
def test_tables_stay_in_their_file(embeddings: str, tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    recipe = {"steps": [{"step": "quantize", "embeddings": embeddings}]}
    model = sottovoce.load(tmp_path / "model")
    sottovoce.compress(model, sottovoce.Recipe.from_dict(recipe))
    again = sottovoce.load(sottovoce.save(model, tmp_path / "small"))
    table = again.module.get_submodule("model.language_model.embed_tokens").weight
    assert table.dtype == (torch.int8 if embeddings == "int8" else torch.float32)
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in maps]
    assert any(start <= table.data_ptr() < end for start, end in ranges)
