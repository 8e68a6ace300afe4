"""Calls of a quantization method, with checks of what it returns: a plugin's method may return anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sottovoce.errors import PluginError
from sottovoce.quantization.method import Method
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.qparams import QuantizationParams


def compute_qparams(method: Method, weight: Tensor, scheme: Scheme, *, search: bool) -> QuantizationParams:
    """Return the scales and zero points that a method chooses for a weight ``[out, in]``.

    Raises:
        PluginError: They are of another form than the scheme says, or not positive numbers.
    """
    qparams = method.compute_qparams(weight, scheme, search=search)
    if not method.chooses_qparams:
        return qparams
    groups = weight.shape[1] // scheme.group_size if scheme.group_size else 1
    if not isinstance(qparams, QuantizationParams):
        raise _problem(method, "compute_qparams", f"gave {type(qparams).__name__}, not QuantizationParams")
    _require(method, "compute_qparams", "scale", qparams.scale, (weight.shape[0], groups), torch.float32)
    if not _is_positive(qparams.scale):
        raise _problem(method, "compute_qparams", "gave a scale that is not a positive number")
    if qparams.scheme != scheme or (qparams.zero_point is None) != (scheme.symmetric or scheme.type == "float"):
        raise _problem(method, "compute_qparams", "gave parameters of another scheme than it was called with")
    if (zero_point := qparams.zero_point) is not None:
        _require(method, "compute_qparams", "zero_point", zero_point, (weight.shape[0], groups), torch.float32)
        if not zero_point.is_meta and not bool((zero_point == zero_point.round()).all()):
            raise _problem(method, "compute_qparams", "gave a zero point that is not a whole number")
        _require_range(method, "compute_qparams", zero_point, scheme)
    return qparams


def correct(method: Method, weight: Tensor, hessian: Tensor, drift: Tensor) -> Tensor:
    """Return the weight that a method quantizes in place of ``weight`` ``[out, in]``; see :meth:`Method.correct`.

    Raises:
        ArithmeticError: The second moments cannot be used.
        PluginError: It is of another form, or not finite.
    """
    corrected = method.correct(weight, hessian, drift)
    if corrected is not weight:
        _require(method, "correct", "tensor", corrected, tuple(weight.shape), None)
        if not corrected.is_floating_point() or not bool(corrected.isfinite().all()):
            raise _problem(method, "correct", "gave a weight that is not finite")
    return corrected


def quantize(method: Method, weight: Tensor, qparams: QuantizationParams, hessian: Tensor | None) -> Tensor:
    """Return the quantized values that a method chooses for a weight ``[out, in]``.

    Raises:
        ArithmeticError: The second moments cannot be used.
        PluginError: The values are of another form than the scheme says, or outside of its range.
    """
    qweight = method.quantize(weight, qparams, hessian)
    if method.rounds_to_nearest:
        return qweight
    scheme = qparams.scheme
    dtype = torch.float8_e4m3fn if scheme.type == "float" else torch.int8
    _require(method, "quantize", "tensor", qweight, tuple(weight.shape), dtype)
    if dtype == torch.int8:
        _require_range(method, "quantize", qweight, scheme)
    elif not qweight.is_meta and bool(qweight.float().isnan().any()):
        raise _problem(method, "quantize", "gave a value that is not a number")
    return qweight


def search_factors(
    method: Method,
    weights: Sequence[Tensor],
    schemes: Sequence[Scheme],
    hessian: Tensor,
    magnitude: Tensor,
    *,
    search: bool,
    powers_of_two: bool,
) -> Tensor | None:
    """Return the factors of an input that a method chooses, or ``None``; see :meth:`Method.search_factors`.

    Raises:
        PluginError: They are not one positive number for each input.
    """
    factors = method.search_factors(weights, schemes, hessian, magnitude, search=search, powers_of_two=powers_of_two)
    if factors is not None:
        _require(method, "search_factors", "tensor", factors, (weights[0].shape[1],), None)
        if not factors.is_floating_point() or not _is_positive(factors):
            raise _problem(method, "search_factors", "gave a factor that is not a positive number")
    return factors


def _require(
    method: Method, call: str, what: str, value: object, shape: tuple[int, ...], dtype: torch.dtype | None
) -> None:
    if not isinstance(value, Tensor):
        raise _problem(method, call, f"gave {type(value).__name__} for a {what}")
    if tuple(value.shape) != shape or (dtype is not None and value.dtype != dtype):
        promise = f"{'' if dtype is None else f'{dtype} '}{list(shape)}"
        raise _problem(method, call, f"gave a {what} of {value.dtype} {list(value.shape)}, not of {promise}")


def _require_range(method: Method, call: str, values: Tensor, scheme: Scheme) -> None:
    if values.is_meta or not values.numel():
        return
    low, high = (int(value) for value in values.aminmax())
    if low < scheme.lowest or high > scheme.highest:
        raise _problem(method, call, f"gave values from {low} to {high}, beyond {scheme.lowest} to {scheme.highest}")


def _is_positive(values: Tensor) -> bool:
    return values.is_meta or bool((values.isfinite() & (values > 0)).all())


def _problem(method: Method, call: str, what: str) -> PluginError:
    return PluginError(
        f"the method {method.name!r} of {type(method).__module__}: {call} {what}; its author must mend it"
    )
