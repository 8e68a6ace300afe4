"""The base of linear layers whose weight an engine holds in a layout of its own, in place of the plain one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from sottovoce.runtime.backends import onednn
from sottovoce.runtime.backends.int8_kernels import Kernel, SharedRows
from sottovoce.runtime.backends.int8_product import PreparedProduct
from sottovoce.runtime.quantized_linear import QuantizedLinear


class RepackedLinear(QuantizedLinear):
    """Linear layer that looks as if it always had its plain weight: for reading, saving, copying, loading and moving.

    Attributes:
        weight: Integers ``[out, in]``, rebuilt when asked for while they are only held packed.
    """

    stored: ClassVar[tuple[str, ...]]
    """Names of the tensors in the state dict, in order; those that are ``None`` are left out."""

    weight: Tensor
    _kernel: Kernel | None
    _packed: onednn.PackedWeight | None
    _shared: SharedRows | None

    def _register_weight(self, weight: Tensor) -> None:
        self.register_buffer("weight", weight)
        self._kernel = self._packed = self._shared = None

    def _hold(self, product: PreparedProduct) -> None:
        """Keep a prepared product, and free the plain weight where the packed one gives it back exactly."""
        self._packed = product.packed
        self._kernel = product.kernel
        if product.gives_back:
            # Last, so that another thread finds the plain weight or the packed one.
            self._buffers.pop("weight", None)

    def unpack_(self) -> Self:
        """Go back to the plain weight; needed before it is changed in place."""
        self._buffers.update(weight=self.weight)
        self._kernel = self._packed = None
        return super().refresh_()

    def refresh_(self) -> Self:
        """Forget the packed form, which holds copies of the scales and the bias too."""
        return self.unpack_()

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        """Return an attribute; ``weight`` is rebuilt while it is only held packed."""
        packed = self.__dict__.get("_packed") if name == "weight" else None
        if packed is not None and self._buffers.get("weight") is None:
            return packed.unpack()  # type: ignore[no-any-return]
        return super().__getattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes: the plain weight, not the packed one."""
        buffers = {**self._buffers, "weight": self.weight}
        return {**self.__dict__, "_buffers": buffers, "_kernel": None, "_packed": None, "_shared": None}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name in self.stored:
            value = getattr(self, name)
            if value is not None:
                destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        self.unpack_()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        scale = self.weight_scale
        if fn(scale) is not scale:
            # The plain weight moves; the next run packs it for the new device.
            self.unpack_()
        return super()._apply(fn, recurse)
