"""The tensors beside quantized weights: scales, zero points, packed numbers and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attack import tensor_file
from attack.case import Case, Expect
from attack.model import HonestModel
from attack.tensor_file import WEIGHTS, with_tensors

KIND = "scales"

Edit = Callable[[Any], Any]

EDITS: Mapping[str, tuple[Edit, Expect]] = {
    "NaN": (lambda tensor: tensor.fill_(math.nan), Expect.REFUSED),
    "one NaN": (lambda tensor: tensor.view(-1)[:1].fill_(math.nan), Expect.REFUSED),
    "infinity": (lambda tensor: tensor.fill_(math.inf), Expect.REFUSED),
    "zero": (lambda tensor: tensor.zero_(), Expect.SAME),
    "negative": (lambda tensor: tensor.neg_(), Expect.SAME),
    "one negative": (lambda tensor: tensor.view(-1)[:1].neg_(), Expect.SAME),
    "largest": (lambda tensor: tensor.fill_(3e38), Expect.UNKNOWABLE),
    "smallest": (lambda tensor: tensor.fill_(1e-42), Expect.UNKNOWABLE),
    "int32": (lambda tensor: tensor.int(), Expect.REFUSED),
    "bool": (lambda tensor: tensor.bool(), Expect.REFUSED),
    "complex": (lambda tensor: tensor.to(__import__("torch").complex64), Expect.REFUSED),
    "flat": (lambda tensor: tensor.view(-1), Expect.REFUSED),
    "turned": (lambda tensor: tensor.t() if tensor.dim() == 2 else tensor[None], Expect.REFUSED),
    "half": (lambda tensor: tensor[: len(tensor) // 2], Expect.REFUSED),
    "one": (lambda tensor: tensor.view(-1)[0], Expect.REFUSED),
    "none": (lambda tensor: tensor[:0], Expect.REFUSED),
}
"""What is done to scales."""

NUMBERS: Mapping[str, tuple[Edit, Expect]] = {
    "uint8": (lambda tensor: tensor.to(__import__("torch").uint8), Expect.REFUSED),
    "int64": (lambda tensor: tensor.long(), Expect.REFUSED),
    "int16": (lambda tensor: tensor.short(), Expect.REFUSED),
    "float": (lambda tensor: tensor.float(), Expect.REFUSED),
    "bool": (lambda tensor: tensor.bool(), Expect.REFUSED),
    "flat": (lambda tensor: tensor.view(-1), Expect.REFUSED),
    "turned": (lambda tensor: tensor.t() if tensor.dim() == 2 else tensor[None], Expect.REFUSED),
    "half": (lambda tensor: tensor[: len(tensor) // 2], Expect.REFUSED),
    "lowest": (lambda tensor: tensor.fill_(-(2 ** (8 * tensor.element_size() - 1))), Expect.UNKNOWABLE),
    "negative": (lambda tensor: tensor.neg_(), Expect.UNKNOWABLE),
    "huge": (lambda tensor: tensor.fill_(2 ** (8 * tensor.element_size() - 1) - 1), Expect.UNKNOWABLE),
}
"""What is done to quantized weights, zero points and shapes that are kept as numbers."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield a case for each kind of tensor that a compressed layer has, and each edit."""
    if not model.compressed:
        return
    header, _ = tensor_file.read(model.directory / WEIGHTS)
    names = tensor_file.names(model.directory / WEIGHTS)
    chosen: dict[str, str] = {}
    for name in names:
        layer, _, last = name.rpartition(".")
        if f"{layer}.weight_scale" in header and last != "bias":
            chosen.setdefault(f"{last} {header[name]['dtype']}", name)
    for what, name in chosen.items():
        for edit, (change, expect) in (EDITS if what.startswith("weight_scale") else NUMBERS).items():
            # A number of shapes is no weight: any other is wrong.
            expected = Expect.SAME if "shape" in what and expect is Expect.UNKNOWABLE else expect
            if what == "weight_shape I64" and edit in ("int64", "flat"):
                continue  # That is what it is.
            yield Case(
                kind=KIND,
                name=f"{what}/{edit}",
                model=model.name,
                change=with_tensors(_edit(name, change)),
                expect=expected,
                signed=True,
                operations=("predict", "save"),
                reported=model.name.endswith("-int8")
                and what.startswith(("weight_scale", "weight I8"))
                and edit in ("NaN", "negative", "zero", "uint8"),
            )


def _edit(name: str, change: Edit) -> Callable[[dict[str, Any]], None]:
    def apply(tensors: dict[str, Any]) -> None:
        tensors[name] = change(tensors[name])

    return apply
