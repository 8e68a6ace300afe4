"""Methods in ExecuTorch: the module's numbers at any length within bounds, and the integers of compressed layers."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sottovoce.errors import OutputError
from sottovoce.formats.executorch import ExecuTorchSession, Method, export_executorch
from sottovoce.formats.quantized_weights import QuantizedWeights
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.layers import from_quantized
from sottovoce.runtime.qparams import compute_qparams

WIDTH, OUTPUTS, LONGEST = 64, 32, 40
TAKEN = {
    "int8": Scheme(bits=8),
    "int4 in groups": Scheme(bits=4, group_size=32),
    "int3 in groups": Scheme(bits=3, group_size=32),
    "int2 in groups": Scheme(bits=2, group_size=32),
}
LEFT = {
    "int8 in groups": Scheme(bits=8, group_size=32),
    "int4 in small groups": Scheme(bits=4, group_size=16),
    "int4 with zero points": Scheme(bits=4, group_size=32, symmetric=False),
}

needs_executorch = pytest.mark.skipif(not find_spec("executorch"), reason="executorch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # torchao's and ExecuTorch's own


def quantized(scheme: Scheme) -> nn.Module:
    torch.manual_seed(0)
    linear = nn.Linear(WIDTH, OUTPUTS)
    qparams = compute_qparams(linear.weight.detach(), scheme)
    return from_quantized(linear, qparams.quantize(linear.weight.detach()), qparams)


def method(module: nn.Module, name: str = "forward") -> Method:
    return Method(
        name=name, module=module, inputs=(torch.randn(1, 5, WIDTH),), lengths={"input": {1: ("time", LONGEST)}}
    )


class Branch(nn.Module):
    """Module that decides by its data."""

    def forward(self, input: Tensor) -> Tensor:
        return input if input.sum() > 0 else -input


@needs_executorch
def test_methods_give_the_modules_numbers_at_any_length_within_bounds(tmp_path: Path) -> None:
    first, second = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU()), nn.Linear(WIDTH, 3)
    path = tmp_path / "pair.pte"
    export_executorch([method(first, "first"), method(second, "second")], path, {"threshold": 0.5})
    session = ExecuTorchSession(path)
    assert session.methods == ("first", "second", "threshold")
    assert session.constant("threshold") == 0.5
    assert session.greatest("first") == [(1, LONGEST, WIDTH)]
    for length in (1, LONGEST):
        x = torch.randn(1, length, WIDTH)
        for name, module in (("first", first), ("second", second)):
            outputs = session.run(name, [x.numpy()])
            np.testing.assert_allclose(outputs[0], module(x).detach().numpy(), atol=1e-5)
    with pytest.raises(OutputError, match=rf"^pair\.pte: ExecuTorch does not run 'first' on \(1, {LONGEST + 1}, "):
        session.run("first", [np.zeros((1, LONGEST + 1, WIDTH), np.float32)])
    with pytest.raises(OutputError, match=r"^pair\.pte: has no value 'width'; export the model again"):
        session.constant("width")


@needs_executorch
@pytest.mark.parametrize("scheme", TAKEN.values(), ids=TAKEN)
def test_integers_that_xnnpack_takes_give_the_compressed_layers_numbers(scheme: Scheme, tmp_path: Path) -> None:
    from sottovoce.formats.xnnpack_weights import DynamicLinear, store_for_xnnpack

    layer = quantized(scheme)
    stands_for = layer.dequantize()
    module = nn.Sequential(stands_for)
    assert store_for_xnnpack(module, QuantizedWeights(layer)) == 1
    assert isinstance(module[0], DynamicLinear)
    path = tmp_path / "layer.pte"
    export_executorch([method(module)], path)
    # Rows of 127 and zero are rounded to int8 without a loss; scales of groups are stored in bfloat16.
    rows = 127.0 * np.eye(LONGEST, WIDTH, dtype=np.float32)[None]
    outputs = ExecuTorchSession(path).run("forward", [rows])[0]
    expected = stands_for(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-5 if scheme.bits == 8 else 1e-2, atol=1e-2)


@needs_executorch
@pytest.mark.parametrize("scheme", LEFT.values(), ids=LEFT)
def test_other_integers_stay_the_floats_that_they_stand_for(scheme: Scheme) -> None:
    from sottovoce.formats.xnnpack_weights import store_for_xnnpack

    layer = quantized(scheme)
    module = nn.Sequential(layer.dequantize())
    assert store_for_xnnpack(module, QuantizedWeights(layer)) == 0
    assert type(module[0]) is nn.Linear


@needs_executorch
def test_what_cannot_be_written_or_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^x\.pte: Branch cannot be captured \(") as caught:
        export_executorch([Method(name="forward", module=Branch(), inputs=(torch.ones(2),))], tmp_path / "x.pte")
    assert "\n" not in str(caught.value)
    (tmp_path / "x.pte").write_bytes(b"no program of ExecuTorch's" * 10)
    with pytest.raises(OutputError, match=r"^x\.pte: ExecuTorch does not read it \("):
        ExecuTorchSession(tmp_path / "x.pte")


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("executorch", "executorch.exir", "executorch.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OutputError, match=r"needs executorch .*pip install 'sottovoce\[executorch\]'"):
        export_executorch([method(nn.Linear(WIDTH, 2))], tmp_path / "x.pte")
    with pytest.raises(OutputError, match=r"needs executorch .*pip install 'sottovoce\[executorch\]'"):
        ExecuTorchSession(tmp_path / "x.pte")
