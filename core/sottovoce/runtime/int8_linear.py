"""A linear layer with s8 weights and activations that are quantized while it runs (W8A8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.backends import onednn
from sottovoce.runtime.backends.int8_kernels import InputRange, SharedRows
from sottovoce.runtime.backends.int8_product import Int8Operands, prepare_product
from sottovoce.runtime.qparams import QuantizationParams
from sottovoce.runtime.repacked_linear import RepackedLinear

BY_TENSOR = Scheme(bits=8, activations="dynamic", strategy="tensor")
"""Scheme of inputs that are quantized by the range of the whole tensor."""


class Int8Linear(RepackedLinear):
    """A linear layer stored as int8, under the names that compressed-tensors gives its ``int-quantized`` weights.

    Each output channel has a scale (its largest weight is 127). The input is quantized to 8 bits whenever the layer
    runs: by the range of each row, by that of the tensor, or by one that was calibrated. The first run, or
    :meth:`pack_`, brings the weight into the layout of the engine. oneDNN's gives the weight back exactly, so the plain
    one is freed and the layer takes the memory of its weight once: ``weight`` and the state dict rebuild it when
    asked, ``named_buffers`` leaves it out. On a GPU the plain weight is multiplied as it is.

    On other devices than these, and when gradients are recorded, the weight is dequantized and the product is float.
    A weight that is changed in place needs :meth:`unpack_` first; loading a state dict and moving do it themselves.

    Attributes:
        weight: int8 ``[out, in]``.
        weight_scale: float32 ``[out, 1]``.
        input_scale: float32 ``[1]``, when the range of the input is calibrated.
        input_zero_point: int8 ``[1]``, when the range of the input is calibrated.
        bias: Float parameter ``[out]`` or ``None``.
    """

    stored = ("weight", "weight_scale", "input_scale", "input_zero_point", "bias")

    input_scale: Tensor | None
    input_zero_point: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool,
        device: torch.device | str | None = None,
        scheme: Scheme = BY_TENSOR,
    ) -> None:
        """Make a layer to be filled by ``load_state_dict``; until then its weights are arbitrary.

        Args:
            in_features: Size of an input.
            out_features: Size of an output.
            bias: If true, there is a bias.
            device: Where the weights lie; ``meta`` for a load with ``assign=True``.
            scheme: How the input is quantized.
        """
        super().__init__(in_features, out_features, bias, scheme, device)
        self._register_weight(torch.empty(out_features, in_features, dtype=torch.int8, device=device))
        self.register_buffer("weight_scale", torch.empty(out_features, 1, dtype=torch.float32, device=device))
        calibrated = scheme.activations == "static"
        self.register_buffer("input_scale", torch.ones(1, device=device) if calibrated else None)
        zero_point = torch.zeros(1, dtype=torch.int8, device=device) if calibrated else None
        self.register_buffer("input_zero_point", zero_point)

    @classmethod
    def from_float(cls, linear: nn.Linear) -> Int8Linear:
        """Quantize ``linear`` by rounding to nearest; it is left as it was.

        Raises:
            ValueError: A weight is not finite.
        """
        weight = linear.weight.detach().float()
        largest = weight.abs().amax(dim=1, keepdim=True)
        if not largest.is_meta and not bool(torch.isfinite(largest).all()):
            raise ValueError("a weight is not finite")
        scale = torch.where(largest > 0, largest / 127, 1.0).clamp_(min=torch.finfo(torch.float32).tiny)
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        layer.weight = torch.round(weight / scale).clamp_(-127, 127).to(torch.int8)
        layer.weight_scale = scale
        return layer._with_bias_of(linear)

    @classmethod
    def from_quantized(
        cls, linear: nn.Linear, qweight: Tensor, qparams: QuantizationParams, inputs: InputRange | None = None
    ) -> Int8Linear:
        """Make a layer of quantized values and their parameters, with the bias of ``linear``.

        Args:
            linear: The float layer.
            qweight: s8 ``[out, in]``.
            qparams: What the values mean; its scheme says how the input is quantized.
            inputs: The calibrated range of the input, for static activations.
        """
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None, "meta", qparams.scheme)
        layer.weight, layer.weight_scale = qweight, qparams.scale.float()
        if layer.input_scale is not None:
            scale, zero_point = inputs or InputRange(1.0, 0)
            layer.input_scale = torch.tensor([scale], device=qweight.device)
            layer.input_zero_point = torch.tensor([zero_point], dtype=torch.int8, device=qweight.device)
        return layer._with_bias_of(linear)

    @property
    def input_range(self) -> InputRange | None:
        """Calibrated range of the input; ``None`` when the input is quantized dynamically."""
        return InputRange.of(self.input_scale, self.input_zero_point)

    def float_weight(self, dtype: torch.dtype) -> Tensor:
        """Return the weight ``[out, in]`` that the stored one stands for, computed in ``dtype``."""
        return self.weight.to(dtype) * self.weight_scale.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float ``[..., in]`` to ``[..., out]`` of the same dtype."""
        # A kernel is for the device of the weight: inputs from elsewhere are refused by the float product's own words.
        if x.device != self.weight_scale.device or not x.numel() or (x.requires_grad and torch.is_grad_enabled()):
            return self.float_product(x)
        if self._kernel is None:
            self.pack_()
        return (self._kernel or self.float_product)(x).to(x.dtype)

    def unscaled(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the product before the scales of its rows, for a caller that applies them in a pass of its own.

        Args:
            x: Float ``[..., in]``.

        Returns:
            ``[..., out]`` and the scales ``[rows, 1]``; ``None`` where the layer has a bias or runs in another way.
        """
        by_row = self.scheme.strategy == "token" and self.scheme.activations == "dynamic"
        packed = self.packed() if by_row and self.bias is None and x.device.type == "cpu" and x.numel() else None
        rows = None if packed is None else (self._shared or onednn.quantize_rows)(x)
        if packed is None or rows is None:
            return None
        return onednn.unscaled_rows(rows, packed).view(*x.shape[:-1], -1), rows.scale

    def pack_(self) -> Int8Linear:
        """Bring the weight into the layout of the engine now, not in the first run."""
        if self._kernel is None and self.weight_scale.device.type in ("cpu", "cuda"):
            operands = Int8Operands(
                scheme=self.scheme,
                weight=self.weight,
                weight_scale=self.weight_scale,
                bias=self.bias,
                input_scale=self.input_scale,
                input_zero_point=self.input_zero_point,
            )
            self._hold(prepare_product(operands, self.float_product, self._shared))
        return self

    def packed(self) -> onednn.PackedWeight | None:
        """Return the weight in oneDNN's layout, packed when it was not; ``None`` where another engine runs."""
        return self.pack_()._packed


def share_rounding_(*layers: nn.Module) -> bool:
    """Let layers that read the very same tensor one after another quantize it once; needs a range for each row.

    Returns:
        True if all of them are such layers; otherwise nothing is done.
    """
    readers = [layer for layer in layers if isinstance(layer, Int8Linear)]
    if len(readers) < len(layers) or any(layer.scheme.strategy != "token" or layer.input_range for layer in readers):
        return False
    shared = SharedRows(len(readers))
    for layer in readers:
        layer.unpack_()._shared = shared
    return True
