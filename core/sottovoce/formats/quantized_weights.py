"""The quantized values behind the float weights of an exported graph.

Tracers write floats: a compressed layer is traced as the float layer that it stands for. Tracers also transpose and
rename weights. So a graph's weight is looked up by what it holds, and its quantized values take its place exactly,
instead of being rounded a second time.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sottovoce.runtime.int8_embedding import Int8Embedding
from sottovoce.runtime.int8_linear import Int8Linear
from sottovoce.runtime.packed_linear import PackedLinear

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from sottovoce.recipe.scheme import Scheme
    from sottovoce.runtime.backends.int8_kernels import InputRange


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedWeight:
    """Quantized values of one layer: ``(qweight - zero_point) * scale``, a scale for each group of inputs."""

    name: str
    """Name of the layer in its model."""
    scheme: Scheme
    qweight: NDArray[Any]
    """int8 ``[out, in]``, also for fewer bits."""
    scale: NDArray[Any]
    """float32 ``[out, groups]``."""
    zero_point: NDArray[Any] | None = None
    """int8 ``[out, groups]``; ``None`` is zero."""
    inputs: InputRange | None = None
    """Scale and zero point of the inputs, where these were calibrated."""

    @property
    def container_bits(self) -> int:
        """Bits in which formats store a value: 4 or 8. 4 hold 2 and 3, which runtimes hardly have kernels for."""
        return 4 if self.scheme.bits <= 4 else 8

    @property
    def group_size(self) -> int:
        """Number of inputs that share a scale."""
        return int(self.qweight.shape[1] // self.scale.shape[1])


@dataclass(frozen=True, eq=False)
class Place:
    """A float weight of a graph and what stands behind it."""

    weight: QuantizedWeight
    transposed: bool
    """If true, the graph holds it as ``[in, out]``."""


class QuantizedWeights:
    """The quantized weights of a model, found by the floats that they stand for."""

    def __init__(self, module: nn.Module) -> None:
        """Collect the layers of integers; those in fp8 have no integers."""
        self._by_content: dict[tuple[tuple[int, ...], bytes], QuantizedWeight] = {}
        for name, layer in module.named_modules():
            if isinstance(layer, Int8Linear | PackedLinear | Int8Embedding):
                values, floats = _quantized(name, layer)
                self._by_content[_key(floats)] = values

    def __len__(self) -> int:
        return len(self._by_content)

    @property
    def container_bits(self) -> frozenset[int]:
        """Bits in which formats store the weights."""
        return frozenset(weight.container_bits for weight in self._by_content.values())

    def find(self, weight: NDArray[Any]) -> Place | None:
        """Return what stands behind a graph's float32 weight ``[out, in]`` or ``[in, out]``; ``None`` for others."""
        if weight.ndim != 2 or weight.dtype.name != "float32":
            return None
        # The plain order first: a symmetric weight is both, and either is right.
        for transposed in (False, True):
            values = self._by_content.get(_key(weight.T if transposed else weight))
            if values is not None:
                return Place(values, transposed)
        return None


def _key(weight: NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    import numpy

    content = numpy.ascontiguousarray(weight)
    return content.shape, hashlib.sha256(content.data).digest()


def _quantized(name: str, layer: Int8Linear | PackedLinear | Int8Embedding) -> tuple[QuantizedWeight, NDArray[Any]]:
    """Return the quantized values of a layer, and the floats that an export makes of them."""
    qweight = layer.qweight() if isinstance(layer, PackedLinear) else layer.weight
    qparams = layer.qparams() if isinstance(layer, PackedLinear) else None
    scale = layer.weight_scale if qparams is None else qparams.scale
    zero_point = None if qparams is None or qparams.zero_point is None else qparams.zero_point.cpu().numpy()
    values = QuantizedWeight(
        name=name,
        scheme=layer.scheme,
        qweight=qweight.cpu().numpy(),
        scale=scale.float().cpu().numpy(),
        zero_point=None if zero_point is None else zero_point.astype("int8"),
        inputs=layer.input_range if isinstance(layer, Int8Linear) else None,
    )
    return values, layer.dequantize().weight.detach().cpu().numpy()
