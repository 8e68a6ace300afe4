"""How much the experts of a layer matter to the tokens that are routed to them, by kind of token.

Four measures of the same sums: REAP (Lasby et al., "REAP the Experts: Why Pruning Prevails for One-Shot MoE
Compression", https://arxiv.org/abs/2510.13999), the mean norm without the gate (MAN,
https://arxiv.org/abs/2606.15716), the sum of norms (EAN) and the number of tokens.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sottovoce.calibration.routing import Routed
from sottovoce.errors import NotFiniteError, OutputError, RecipeError, SourceError
from sottovoce.experts.step import SaliencyMetric
from sottovoce.runtime.experts import Experts, assigned

FILE_FORMAT = "sottovoce-saliency-1"
_SUMS = ("count", "gate", "norm", "gated_norm")
_TOKENS = 4096
"""Tokens that an expert is run on at a time."""


@dataclass(frozen=True, eq=False)
class Saliency:
    """Sums over the tokens of one layer, float64 ``[modalities, experts]``."""

    modalities: tuple[str, ...]
    count: Tensor
    """Tokens that were routed to an expert."""
    gate: Tensor
    """Sum of their gate values."""
    norm: Tensor
    """Sum of the Euclidean norms of the expert's outputs, before the gate."""
    gated_norm: Tensor
    """Sum of gate value times norm."""
    largest: Tensor
    """Largest absolute value of an expert's outputs ``[experts]``; 0 without tokens."""

    @property
    def experts(self) -> int:
        """How many experts the layer has."""
        return len(self.largest)

    @property
    def tokens(self) -> int:
        """How many assignments of a token to an expert were counted."""
        return int(self.count.sum())

    def score(self, metric: SaliencyMetric, modality: str | None = None) -> Tensor:
        """What each expert is worth, float64 ``[experts]``; 0 for one without tokens.

        Args:
            metric: ``reap`` is the mean of gate times norm, ``mean-norm`` the mean norm, ``ean`` the sum of the norms,
                ``frequency`` the number of tokens.
            modality: Counts the tokens of this kind alone.

        Raises:
            RecipeError: No tokens of this kind were told apart.
        """
        count, norm, gated_norm = (self._of(sums, modality) for sums in (self.count, self.norm, self.gated_norm))
        if metric in ("ean", "frequency"):
            return norm if metric == "ean" else count
        return (gated_norm if metric == "reap" else norm) / count.clamp(min=1)

    def routed_share(self, kept: Iterable[int], modality: str | None = None) -> float:
        """The share of all gate values that goes to the experts ``kept``; 0 without tokens."""
        gate = self._of(self.gate, modality)
        total = float(gate.sum())
        return float(gate[list(kept)].sum()) / total if total > 0 else 0.0

    def _of(self, sums: Tensor, modality: str | None) -> Tensor:
        if modality is None:
            return sums.sum(0)
        if modality not in self.modalities:
            known = ", ".join(self.modalities)
            raise RecipeError(f"no tokens are known as {modality!r}; the kinds that were measured are {known}")
        return sums[self.modalities.index(modality)]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; :meth:`from_dict` gives the very same numbers back."""
        sums = {name: getattr(self, name).tolist() for name in (*_SUMS, "largest")}
        return {"modalities": list(self.modalities), **sums}

    @classmethod
    def from_dict(cls, form: Any) -> Saliency:
        """Read what :meth:`to_dict` wrote.

        Raises:
            SourceError: A key is missing, or the numbers are no sums of one layer; says which.
        """
        if not isinstance(form, Mapping) or not _are_names(form.get("modalities")):
            raise SourceError("no saliency: a mapping with a list of 'modalities' and sums for each is expected")
        modalities = tuple(form["modalities"])
        largest = _numbers(form, "largest")
        sums = {name: _numbers(form, name) for name in _SUMS}
        for name, found in sums.items():
            if found.shape != (len(modalities), len(largest)) or largest.dim() != 1:
                sizes = f"{len(modalities)} modalities and {len(largest)} experts"
                raise SourceError(f"no saliency: {name!r} has the sizes {list(found.shape)}, not those of {sizes}")
        return cls(modalities, **sums, largest=largest)


@torch.no_grad()
def measure(experts: Experts, routed: Routed) -> Saliency:
    """Run every expert on the tokens that are routed to it, and only on them, one expert after another.

    Args:
        experts: The experts of a layer.
        routed: The tokens, and where they go.

    Raises:
        NotFiniteError: An expert gave an infinite value or none at all; names it.
    """
    sums = {name: torch.zeros(len(routed.modalities), len(experts), dtype=torch.float64) for name in _SUMS}
    largest = torch.zeros(len(experts), dtype=torch.float64)
    for number, rows, slots in assigned(routed.index):
        for start in range(0, len(rows), _TOKENS):
            some_rows, some_slots = (places[start : start + _TOKENS] for places in (rows, slots))
            output = experts[number](routed.hidden[some_rows]).float()
            norm = torch.linalg.vector_norm(output, dim=-1).cpu().double()
            if not bool(norm.isfinite().all()):
                raise NotFiniteError(
                    f"the output of expert {number} is not finite; is the sample or the model damaged?"
                )
            gate = routed.weight[some_rows, some_slots].cpu().double()
            modality = routed.modality[some_rows].cpu()
            added = {"count": torch.ones_like(norm), "gate": gate, "norm": norm, "gated_norm": gate * norm}
            for name, values in added.items():
                sums[name][:, number].index_add_(0, modality, values)
            largest[number] = max(float(largest[number]), float(output.abs().max()))
    return Saliency(routed.modalities, **sums, largest=largest)


def write_saliency(path: Path, layers: Mapping[str, Saliency], **facts: Any) -> None:
    """Write what was measured, so that experts can be pruned by it later, without samples.

    Args:
        path: A JSON file; replaced when it is there.
        layers: By the name of the experts' module.
        facts: More to say, such as the model and the samples.

    Raises:
        OutputError: The file system refused.
    """
    form = {"format": FILE_FORMAT, **facts, "layers": {name: one.to_dict() for name, one in layers.items()}}
    temporary = path.with_name(f"{path.name}.part")
    try:
        temporary.write_text(json.dumps(form, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)  # noqa: PTH105  # the target may be there
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: could not be written ({error})") from error


def read_saliency(path: Path) -> dict[str, Saliency]:
    """What :func:`write_saliency` wrote, by the name of the experts' module.

    Raises:
        SourceError: The file is missing, or is none of ours; names the layer that is wrong.
    """
    try:
        form = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise SourceError(f"{path}: not a saliency file: {error}") from None
    layers = form.get("layers") if isinstance(form, Mapping) and form.get("format") == FILE_FORMAT else None
    if not isinstance(layers, Mapping):
        raise SourceError(f"{path}: not a saliency file of the format {FILE_FORMAT!r}")
    found: dict[str, Saliency] = {}
    for name, one in layers.items():
        try:
            found[name] = Saliency.from_dict(one)
        except SourceError as error:
            raise SourceError(f"{path}: {name}: {error}") from None
    return found


def _are_names(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(name, str) for name in value)


def _numbers(form: Mapping[str, Any], name: str) -> Tensor:
    try:
        found = torch.tensor(form[name], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise SourceError(f"no saliency: {name!r} is missing, or is not made of numbers") from None
    if not bool(found.isfinite().all()) or bool((found < 0).any()):
        raise SourceError(f"no saliency: {name!r} has a value that is negative or not finite")
    return found
