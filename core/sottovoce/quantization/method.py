"""Quantization methods: each declares its name, options and labels in one file, ``methods/NAME.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from sottovoce.errors import PluginError, require_name
from sottovoce.system.registry import import_modules, new_registry
from sottovoce.text.translations import Text

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.recipe.scheme import Scheme
    from sottovoce.runtime.qparams import QuantizationParams


class Method(BaseModel):
    """A way to choose the quantized values of a weight. Its fields are the options that a recipe may set.

    The modules of methods are imported to read a recipe, so they import torch in the functions that need it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str] = ""
    """Name in recipes, given by :func:`method`."""
    label: ClassVar[Text] = Text(en="")
    """Short name for tables and model cards, such as ``GPTQ``."""
    description: ClassVar[Text] = Text(en="")
    """One sentence for help pages."""
    needs_samples: ClassVar[bool] = False
    """If true, the method works on the inputs of calibration samples."""
    scales_inputs: ClassVar[bool] = False
    """If true, :meth:`search_factors` scales the inputs of layers before their weights are quantized."""
    follows_original: ClassVar[bool] = False
    """If true, :meth:`correct` is given how far a layer's outputs have drifted from those in the model before any
    change, where that fits in memory."""
    types: ClassVar[tuple[str, ...]] = ("int",)
    """Types of quantized values that the method can choose: ``int``, ``float``."""

    @property
    def rounds_to_nearest(self) -> bool:
        """If true, :meth:`quantize` is not overridden."""
        return type(self).quantize is Method.quantize

    @property
    def chooses_qparams(self) -> bool:
        """If true, :meth:`compute_qparams` is overridden."""
        return type(self).compute_qparams is not Method.compute_qparams

    @property
    def sequential(self) -> bool:
        """If true, a layer is quantized after the layers of its block that run before it."""
        return False

    @property
    def without_original(self) -> Method:
        """The method that is used where the original model is not run; by default this one, without :meth:`correct`."""
        return self

    def correct(self, weight: Tensor, hessian: Tensor, drift: Tensor) -> Tensor:
        """Return the weight to quantize in place of the layer's own; by default that.

        Args:
            weight: Float ``[out, in]``; left as it is.
            hessian: Second moments of the inputs ``[in, in]``, float32.
            drift: What the outputs lack to those of before, times the inputs: a mean over the inputs, ``[out, in]``.

        Raises:
            ArithmeticError: The second moments cannot be used.
        """
        return weight

    def compute_qparams(self, weight: Tensor, scheme: Scheme, *, search: bool) -> QuantizationParams:
        """Choose the scale and zero point of every group.

        Args:
            weight: Float ``[out, in]``.
            scheme: Bits, group size and symmetry.
            search: If true, clipped ranges are tried too, and the one with the least squared error is kept.
        """
        from sottovoce.runtime.qparams import compute_qparams

        return compute_qparams(weight, scheme, search=search)

    def quantize(self, weight: Tensor, qparams: QuantizationParams, hessian: Tensor | None) -> Tensor:
        """Choose the quantized values; by default the nearest ones.

        Args:
            weight: Float ``[out, in]``; left as it is.
            qparams: Scale and zero point of every group.
            hessian: Second moments of the inputs ``[in, in]``, float32; ``None`` without samples.

        Returns:
            Quantized values ``[out, in]``: int8, or fp8 for a float scheme.

        Raises:
            ArithmeticError: The second moments cannot be used.
        """
        return qparams.quantize(weight)

    def search_factors(
        self,
        weights: Sequence[Tensor],
        schemes: Sequence[Scheme],
        hessian: Tensor,
        magnitude: Tensor,
        *,
        search: bool = False,
        powers_of_two: bool = False,
    ) -> Tensor | None:
        """Return the factors ``[in]`` that weights reading one input are multiplied by; ``None`` leaves them.

        Args:
            weights: Weights of the layers that read the input, each float ``[out, in]``.
            schemes: Scheme of each.
            hessian: Second moments of the input ``[in, in]``.
            magnitude: Mean absolute value of the input ``[in]``.
            search: If true, scales are chosen by squared error.
            powers_of_two: If true, the factors must be powers of two: a float weight is scaled by these without loss.
        """
        return None


MethodClass = TypeVar("MethodClass", bound=type[Method])

_METHODS: dict[str, type[Method]] = new_registry()


def method(name: str) -> Callable[[MethodClass], MethodClass]:
    """Register a class as the quantization method ``name``.

    Raises:
        PluginError: Another class has the name, which it names; or the class has no name or label, or is not a Method.
    """

    def register(kind: MethodClass) -> MethodClass:
        owner = getattr(kind, "__module__", "a plugin")
        require_name("method", name, owner)
        if not isinstance(kind, type) or not issubclass(kind, Method):
            raise PluginError(f"the method {name!r} of {owner} is not a subclass of Method")
        for attribute in ("label", "description"):
            text = getattr(kind, attribute)
            if not isinstance(text, Text) or not text.en.strip():
                raise PluginError(
                    f"the method {name!r} of {owner} has no {attribute}: write {attribute} = Text(en=...)"
                )
        other = _METHODS.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (kind.__module__, kind.__qualname__):
            raise PluginError(f"method {name!r} is defined by both {other.__module__} and {kind.__module__}")
        kind.name = name
        _METHODS[name] = kind
        return kind

    return register


def methods() -> Mapping[str, type[Method]]:
    """Return every known method by name: core's, and those of the plugins that are loaded."""
    import_modules("sottovoce.quantization.methods")
    return dict(sorted(_METHODS.items()))
