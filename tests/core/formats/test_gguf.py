"""GGUF: a compressed layer's own integers in ggml's blocks, what no block holds, and damaged files."""

from __future__ import annotations

import dataclasses
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sottovoce.errors import OutputError, UsageError
from sottovoce.formats.gguf import BLOCK, Blocks, GGUFFile, as_blocks, write_gguf
from sottovoce.formats.quantized_weights import QuantizedWeight, QuantizedWeights
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams

INPUTS, OUTPUTS = 128, 20
TAKEN = {
    "int8": ("Q8_0", Scheme(bits=8, activations="dynamic")),
    "int8 in groups": ("Q8_0", Scheme(bits=8, group_size=64)),
    "int4": ("Q4_0", Scheme(bits=4, group_size=BLOCK)),
    "int4 in wider groups": ("Q4_0", Scheme(bits=4, group_size=64)),
    "int3": ("Q4_0", Scheme(bits=3, group_size=64)),
    "int2 with zero points": ("Q4_1", Scheme(bits=2, group_size=BLOCK, symmetric=False)),
    "int4 with zero points": ("Q4_1", Scheme(bits=4, group_size=BLOCK, symmetric=False)),
}
REFUSED = {
    "4 bits in groups of 16 do not fit GGUF's blocks of 32 inputs": Scheme(bits=4, group_size=16),
    "2 bits in groups of 16 do not fit GGUF's blocks of 32 inputs": Scheme(bits=2, group_size=16),
    "GGUF has no block of 8 bits with zero points": Scheme(bits=8, group_size=32, symmetric=False),
}

needs_gguf = pytest.mark.skipif(not find_spec("gguf"), reason="gguf is not installed")


def quantized(scheme: Scheme, inputs: int = INPUTS, size: float = 1.0) -> tuple[QuantizedWeight, Any]:
    torch.manual_seed(0)
    linear = nn.Linear(inputs, OUTPUTS)
    with torch.no_grad():
        linear.weight *= size
    qparams = compute_qparams(linear.weight.detach(), scheme)
    layer = from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)
    floats = layer.dequantize().weight.detach().numpy()
    place = QuantizedWeights(layer).find(floats)
    assert place is not None
    return place.weight, floats


def integers(blocks: Blocks) -> Any:
    """The values as ggml's structures have them, read without the package that wrote them."""
    bytes_of_block = blocks.content.reshape(OUTPUTS, INPUTS // BLOCK, -1)
    if blocks.type == "Q8_0":
        return bytes_of_block[..., 2:].view(np.int8).reshape(OUTPUTS, INPUTS)
    packed = bytes_of_block[..., 2 if blocks.type == "Q4_0" else 4 :]
    return (np.concatenate((packed & 15, packed >> 4), axis=-1).astype(np.int8) - 8).reshape(OUTPUTS, INPUTS)


@needs_gguf
@pytest.mark.parametrize(("type", "scheme"), TAKEN.values(), ids=TAKEN)
def test_a_compressed_layer_keeps_its_own_integers_and_its_scales_to_float16(
    type: str, scheme: Scheme, tmp_path: Path
) -> None:
    weight, floats = quantized(scheme)
    blocks = as_blocks(weight, floats)
    assert blocks is not None
    assert blocks.type == type
    assert (integers(blocks) == weight.qweight).all()
    write_gguf(tmp_path / "layer.gguf", "any", {}, {"weight": blocks})
    file = GGUFFile(tmp_path / "layer.gguf")
    assert file.type("weight") == type
    np.testing.assert_allclose(file.floats("weight"), floats, rtol=2**-11, atol=2**-11 * float(abs(floats).max()))


@pytest.mark.parametrize(("message", "scheme"), REFUSED.items(), ids=REFUSED)
def test_groups_and_zero_points_that_no_block_has_are_refused(message: str, scheme: Scheme) -> None:
    with pytest.raises(UsageError, match=message):
        as_blocks(*quantized(scheme))


def test_a_layer_whose_inputs_are_no_multiple_of_a_block_is_left_to_floats() -> None:
    assert as_blocks(*quantized(Scheme(bits=8), inputs=INPUTS + 16)) is None


@pytest.mark.parametrize("size", [1e-5, 1e9])
def test_a_layer_whose_scales_float16_does_not_hold_is_left_to_floats(size: float) -> None:
    assert as_blocks(*quantized(Scheme(bits=8), size=size)) is None


@needs_gguf
def test_metadata_and_floats_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    tensors = {"a": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.float32([0.1])}
    facts: dict[str, Any] = {"x.count": 7, "x.tail": 0.5, "x.name": "年", "x.tokens": ["", "年", "a@@"]}
    write_gguf(path, "any", facts, tensors)
    file = GGUFFile(path)
    assert {name: file.metadata[name] for name in facts} == facts
    assert file.metadata["general.architecture"] == "any"
    assert list(file.names) == ["a", "b"]
    assert all((file.floats(name) == values).all() for name, values in tensors.items())


@needs_gguf
def test_a_file_that_does_not_hold_the_models_weights_is_refused(tmp_path: Path) -> None:
    blocks = as_blocks(*quantized(Scheme(bits=8)))
    assert blocks is not None
    content = blocks.content.copy()
    content[3, BLOCK] += 1
    damaged = dataclasses.replace(blocks, content=content)
    with pytest.raises(OutputError, match=r"^layer\.gguf: weight is not the model's"):
        write_gguf(tmp_path / "layer.gguf", "any", {}, {"weight": damaged})


@needs_gguf
@pytest.mark.parametrize("kept", [0, 3, 40, 200])
def test_a_file_that_is_cut_off_is_refused(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, "any", {"x.count": 7}, {"a": np.zeros((64, 64), np.float32)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(OutputError, match=r"^model\.gguf: gguf does not read it"):
        GGUFFile(path)


def test_without_the_package_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(OutputError, match=r"pip install 'sottovoce\[gguf\]'"):
        write_gguf(tmp_path / "model.gguf", "any", {}, {})
