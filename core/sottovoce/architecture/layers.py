"""Layers of a family: those to compress, those to keep, and those that may be scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sottovoce.architecture.fields import check_tuple
from sottovoce.recipe.scheme import Strategy


@dataclass(frozen=True)
class ScalePair:
    """A module of a block, and all consumers of its output.

    The module's output may be divided by positive factors that the consumers' weights are multiplied by. So all
    operations between a linear layer and its consumers must commute with the factors, as ReLU does. A pair is skipped
    if a block lacks one of its modules, or if the sizes differ (values that several query heads share).
    """

    source: str
    """Name of the module in its block. A pattern (``re:experts\\.(\\d+)\\.up_proj``) means a pair for each match."""
    consumers: tuple[str, ...]
    """Names or patterns of the linear layers, and of a router, that read the output. For a source that is a pattern,
    they are templates for its groups: ``experts.\\1.down_proj``."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The consumers are a string.
        """
        check_tuple("ScalePair.consumers", self.consumers)


@dataclass(frozen=True, kw_only=True)
class Layers:
    """The layers of a family: those to compress, those to keep, and those that may be scaled.

    Patterns are those of torchao's ``FqnToConfig`` and of compressed-tensors: an exact module name, ``re:`` and a
    regular expression that must match the whole name, or a module's class name.
    """

    targets: tuple[str, ...]
    """Patterns of the linear layers to quantize; each must match a module in every model of the family."""
    ignore: Mapping[str, str] = field(default_factory=dict)
    """Patterns of modules to keep unchanged, each with the reason. They take precedence over ``targets``."""
    ignore_by_default: Mapping[str, str] = field(default_factory=dict)
    """Patterns of modules to keep unless a recipe's own targets name them, each with the reason."""
    weight_only: Mapping[str, str] = field(default_factory=dict)
    """Patterns of targets with inputs that stay float in every recipe, each with the reason.

    Their weights are dequantized when they run, so scales for groups of inputs take no time: 8-bit weights have such
    scales too.
    """
    blocks: tuple[str, ...] = ()
    """Patterns of the repeated layers, in forward order."""
    scale_pairs: Mapping[str, tuple[ScalePair, ...]] = field(default_factory=dict)
    """By pattern of blocks, the pairs that smoothing and AWQ may scale."""
    vllm_names: Mapping[str, str] = field(default_factory=dict)
    """By name of a module, vLLM's name for it. The quantization of its layers is written under both names, since vLLM
    looks for its own."""
    activation_strategy: Strategy = "token"
    """Range of dynamic int8 inputs: ``token`` (per row), or ``tensor``, which is faster and fits inputs without
    outlier rows."""
    min_coverage: float = 0.5
    """Least share of all parameters that quantizing with the default targets changes."""

    def __post_init__(self) -> None:
        """Refuse values of another type, which would be misread.

        Raises:
            TypeError: A string is given in place of a tuple of patterns, or a pair is not a ``ScalePair``.
        """
        for name in ("targets", "blocks"):
            check_tuple(f"Layers.{name}", getattr(self, name))
        for pair in (pair for pairs in self.scale_pairs.values() for pair in pairs):
            if not isinstance(pair, ScalePair):
                raise TypeError(f"Layers.scale_pairs takes ScalePair(source, consumers), not {pair!r}")
