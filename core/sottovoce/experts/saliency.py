"""Saliency of the experts of a layer: their importance to the tokens that are routed to them, by kind of token.

Four measures of the same sums: REAP (Lasby et al., "REAP the Experts: Why Pruning Prevails for One-Shot MoE
Compression", https://arxiv.org/abs/2510.13999), the mean norm without the gate (MAN,
https://arxiv.org/abs/2606.15716), the sum of norms (EAN) and the number of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sottovoce.calibration.routing import Routed
from sottovoce.errors import NotFiniteError, OutputError, RecipeError, SourceError
from sottovoce.experts.step import SaliencyMetric
from sottovoce.report.number_format import counted
from sottovoce.runtime.experts import Experts, assigned
from sottovoce.system import distributed
from sottovoce.system.atomic_write import write_atomically

FILE_FORMAT = "sottovoce-saliency-1"
_SUMS = ("count", "gate", "norm", "gated_norm")
_TOKENS = 4096
"""Tokens that an expert runs on at a time."""
Assigned = tuple[int, Tensor, Tensor]
"""An expert, with the rows and slots of its tokens."""


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
        """Number of experts of the layer."""
        return len(self.largest)

    @property
    def tokens(self) -> int:
        """Number of counted assignments of a token to an expert."""
        return int(self.count.sum())

    def score(self, metric: SaliencyMetric, modality: str | None = None) -> Tensor:
        """Compute the importance of every expert, float64 ``[experts]``; 0 for one without tokens.

        Args:
            metric: ``reap`` is the mean of gate times norm, ``mean-norm`` the mean norm, ``ean`` the sum of the norms,
                ``frequency`` the number of tokens.
            modality: Kind of the tokens to count; by default all.

        Raises:
            RecipeError: No tokens of this kind were measured.
        """
        count, norm, gated_norm = (self._of(sums, modality) for sums in (self.count, self.norm, self.gated_norm))
        if metric in ("ean", "frequency"):
            return norm if metric == "ean" else count
        return (gated_norm if metric == "reap" else norm) / count.clamp(min=1)

    def routed_share(self, kept: Iterable[int], modality: str | None = None) -> float:
        """Compute the share of all gate values that goes to the experts ``kept``; 0 without tokens."""
        gate = self._of(self.gate, modality)
        total = float(gate.sum())
        return float(gate[list(kept)].sum()) / total if total > 0 else 0.0

    def _of(self, sums: Tensor, modality: str | None) -> Tensor:
        if modality is None:
            return sums.sum(0)
        if modality not in self.modalities:
            known = ", ".join(self.modalities)
            raise RecipeError(f"no tokens of the kind {modality!r}; the kinds that were measured are {known}")
        return sums[self.modalities.index(modality)]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, from which :meth:`from_dict` reads exactly the same numbers."""
        sums = {name: getattr(self, name).tolist() for name in (*_SUMS, "largest")}
        return {"modalities": list(self.modalities), **sums}

    @classmethod
    def from_dict(cls, form: Any) -> Saliency:
        """Read the form of :meth:`to_dict`.

        Raises:
            SourceError: A key is missing, or its numbers are not sums of one layer; names the key.
        """
        if not isinstance(form, Mapping) or not _are_names(form.get("modalities")):
            raise SourceError("not valid saliency: a mapping with a list of 'modalities' and sums for each is expected")
        modalities = tuple(form["modalities"])
        largest = _numbers(form, "largest")
        sums = {name: _numbers(form, name) for name in _SUMS}
        for name, values in sums.items():
            if values.shape != (len(modalities), len(largest)) or largest.dim() != 1:
                sizes = f"{counted(len(modalities), 'modality', 'modalities')} and {counted(len(largest), 'expert')}"
                shape = list(values.shape)
                raise SourceError(f"not valid saliency: {name!r} has the shape {shape}, not that of {sizes}")
        return cls(modalities, **sums, largest=largest)


@torch.no_grad()
def measure(experts: Experts, routed: Routed) -> Saliency:
    """Run every expert on the tokens that are routed to it, one expert after another, and sum up its saliency.

    Processes that share the tokens divide the experts among them.

    Args:
        experts: The experts of a layer.
        routed: The tokens, and their experts.

    Raises:
        NotFiniteError: An expert's output has an infinite value or NaN; names the expert.
    """
    sums = {name: torch.zeros(len(routed.modalities), len(experts), dtype=torch.float64) for name in _SUMS}
    largest = torch.zeros(len(experts), dtype=torch.float64)
    for number, rows, slots in _own(list(assigned(routed.index)), routed.is_shared):
        for start in range(0, len(rows), _TOKENS):
            token, slot = (places[start : start + _TOKENS] for places in (rows, slots))
            output = experts[number](routed.hidden[token]).float()
            norm = torch.linalg.vector_norm(output, dim=-1).cpu().double()
            if not bool(norm.isfinite().all()):
                raise NotFiniteError(
                    f"the output of expert {number} is not finite; is the sample or the model damaged?"
                )
            gate = routed.weight[token, slot].cpu().double()
            modality = routed.modality[token].cpu()
            added = {"count": torch.ones_like(norm), "gate": gate, "norm": norm, "gated_norm": gate * norm}
            for name, values in added.items():
                sums[name][:, number].index_add_(0, modality, values)
            largest[number] = max(float(largest[number]), float(output.abs().max()))
    if routed.is_shared:
        distributed.sum_(*sums.values(), largest)
    return Saliency(routed.modalities, **sums, largest=largest)


def _own(experts: list[Assigned], is_shared: bool) -> list[Assigned]:
    """Return the experts that this process runs: of several with the same tokens, each runs some."""
    return distributed.share(experts) if is_shared else experts


def write_saliency(path: Path, layers: Mapping[str, Saliency], **facts: Any) -> None:
    """Write saliency to a file by which experts can be pruned later, without samples.

    Args:
        path: A JSON file; replaced if it exists.
        layers: Saliency by the name of the experts' module.
        facts: More entries, such as the model and the samples.

    Raises:
        OutputError: The file system refused.
    """
    sums = {name: saliency.to_dict() for name, saliency in layers.items()}
    form = {"format": FILE_FORMAT, **facts, "layers": sums}
    try:
        write_atomically(path, json.dumps(form, allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: could not be written ({error})") from error


def read_saliency(path: Path) -> dict[str, Saliency]:
    """Read the file of :func:`write_saliency`, by the name of the experts' module.

    Raises:
        SourceError: The file is missing or not valid; names the layer that is wrong.
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
    saliency: dict[str, Saliency] = {}
    for name, sums in layers.items():
        try:
            saliency[name] = Saliency.from_dict(sums)
        except SourceError as error:
            raise SourceError(f"{path}: {name}: {error}") from None
    return saliency


def _are_names(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(name, str) for name in value)


def _numbers(form: Mapping[str, Any], name: str) -> Tensor:
    try:
        numbers = torch.tensor(form[name], dtype=torch.float64)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise SourceError(f"not valid saliency: {name!r} is missing or not numeric") from None
    if not bool(numbers.isfinite().all()) or bool((numbers < 0).any()):
        raise SourceError(f"not valid saliency: {name!r} has a value that is negative or not finite")
    return numbers
