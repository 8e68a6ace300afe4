"""Records that describe a model family: data, and a few functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import as_source_error
from sottovoce.recipe.pattern import matches
from sottovoce.recipe.scheme import Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.samples import Prediction, Sample


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Facts of a family for its model card that cannot be measured."""

    pipeline_tag: str = ""
    """The Hub's task name, such as ``automatic-speech-recognition``."""
    library_name: str = ""
    """The library that loads the files, such as ``funasr``."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages."""
    usage: str = ""
    """Python that loads ``"{directory}"`` with the model's own library and prints its output for ``"{audio}"``, where
    ``"{text}"`` is said. Other braces are doubled."""
    hub_usage: Mapping[str, str] = field(default_factory=dict)
    """By hub that the library itself loads from (``hf``, ``modelscope``), the same with ``"{repository}"`` in place of
    the directory."""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By language (``zh``), translations of the family's English sentences, such as the reasons for kept layers."""
    packages: tuple[str, ...] = ()
    """Requirements of ``usage``, as ``pip install`` takes them."""


@dataclass(frozen=True, kw_only=True)
class ExpertLayout:
    """Place of the experts in one part of a model, and the number in its configuration that counts them."""

    part: str
    """Name of the part in recipes and reports, such as ``decoder``."""
    experts: str
    """Pattern of the modules that hold the experts of a layer."""
    count: str
    """Path of the number of experts in the model's configuration, such as ``text_config.num_experts``."""
    router: str = "gate"
    """Name of the router, a sibling of the experts: its ``weight`` has a row per expert, of which ``top_k`` run."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""
    protect: Mapping[str, float] = field(default_factory=dict)
    """By kind of token (see ``Runner.modalities``), the share of a layer's experts that pruning keeps for it, unless a
    recipe has another. Samples must have such tokens."""


@dataclass(frozen=True, kw_only=True)
class Width:
    """Hidden units of the feed-forward layers of one part, which ``prune_width`` may remove."""

    part: str
    """Name of the part in recipes and reports, such as ``encoder``."""
    modules: str
    """Pattern of the modules that hold the layers, such as ``re:encoder\\.layers\\.\\d+\\.mlp``."""
    inputs: tuple[str, ...]
    """Names, in such a module, of the linear layers with a row for each unit."""
    output: str
    """Name of the linear layer with a column for each unit."""
    norm: str | None = None
    """Name of a normalization over the units, if there is one between the two."""
    keys: tuple[str, ...]
    """Settings of the configuration that hold the number of units, as paths such as ``text_config.intermediate_size``.
    The family's own class has one number for all layers of the part, so all keep as many units."""
    is_last: bool = False
    """If true, what the output layer gives is added to the hidden states last in a block. Then it is also fitted to
    make up for what earlier layers changed."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The inputs or the keys are a string.
        """
        _check_tuple("Width.inputs", self.inputs)
        _check_tuple("Width.keys", self.keys)


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Attention heads of one part, which ``prune_heads`` may remove.

    A group is what can be removed at once: a head, or the query heads that share a head of keys and values with it.
    """

    part: str
    """Name of the part in recipes and reports."""
    modules: str
    """Pattern of the attention modules."""
    output: str
    """Name, in such a module, of the output projection. Its columns belong to the groups in their order."""
    groups: Callable[..., int]
    """Function ``groups(attention)`` that returns the number of groups of a module."""
    rows: tuple[str, ...] = ()
    """Names of the projections that have as many rows for every group, in the groups' order."""
    remove: Callable[..., None] | None = None
    """Function ``remove(model, name, kept)`` that removes all groups but those of the numbers ``kept`` from the
    attention of that name, in place, where ``rows`` and the columns of ``output`` alone do not do it. The output
    projection then has the columns of the kept groups. It must work on tensors without data too."""
    keys: tuple[str, ...] = ()
    """Settings of the configuration that count heads or groups; all shrink by the same factor."""
    own_class: str = ""
    """Reason why the model's own library does not load the result, if it does not."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The rows or the keys are a string.
        """
        _check_tuple("Heads.rows", self.rows)
        _check_tuple("Heads.keys", self.keys)


@dataclass(frozen=True, kw_only=True)
class Depth:
    """Layers of one part, which ``prune_layers`` may remove."""

    part: str
    """Name of the part in recipes and reports."""
    layers: str
    """Name of the module that holds the layers in order, such as ``encoder.layers``."""
    output: str
    """Name, in a layer, of a linear layer whose output is added to the hidden states, best the last one: in the layer
    before a removed one it is fitted to what the removed layer gave."""
    before: str | None = None
    """Name of the layer that runs before the first of them, if there is one; it is never removed."""
    keys: tuple[str, ...]
    """Settings of the configuration that count the layers; all fall by the number of removed ones."""
    lists: tuple[str, ...] = ()
    """Settings that are a list with an item for each layer."""
    positions: tuple[str, ...] = ()
    """Settings that are the number of a layer, or a list of such; each falls by the removed layers before it."""
    number_attributes: tuple[str, ...] = ()
    """Attributes of the modules in a layer that hold its number, such as ``layer_idx``."""
    keep: Mapping[int, str] | Callable[..., Mapping[int, str]] = field(default_factory=dict)
    """By number of a layer (``-1`` is the last), the reason why it is never removed; or a function ``keep(model)`` that
    returns this."""
    pruned: bool = True
    """If true, a recipe that does not name the part prunes it too."""

    def __post_init__(self) -> None:
        """Refuse a string in place of several names.

        Raises:
            TypeError: The keys, lists, positions or attributes are a string.
        """
        for name in ("keys", "lists", "positions", "number_attributes"):
            _check_tuple(f"Depth.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Structure of a family that may be pruned, and the settings that describe it to the family's own class."""

    widths: tuple[Width, ...] = ()
    heads: tuple[Heads, ...] = ()
    depths: tuple[Depth, ...] = ()


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
        _check_tuple("ScalePair.consumers", self.consumers)


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
            _check_tuple(f"Layers.{name}", getattr(self, name))
        for pair in (pair for pairs in self.scale_pairs.values() for pair in pairs):
            if not isinstance(pair, ScalePair):
                raise TypeError(f"Layers.scale_pairs takes ScalePair(source, consumers), not {pair!r}")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """The functions that run a model of a family, for calibration, evaluation and inference."""

    forward: Callable[..., Tensor]
    """Function ``forward(model, sample)`` that runs one :class:`~sottovoce.Sample` and returns its logits ``[tokens,
    vocabulary]``: for calibration, divergence, and the proof that a saved model is the same."""
    predict: Callable[..., Prediction]
    """Function ``predict(model, sample)`` that runs one sample as a user would and returns the text and the tokens."""
    probe: Callable[..., Sample]
    """Function ``probe(model)`` that returns a short, fixed sample that every model of the family takes."""
    answer_logits: Callable[..., Tensor | None] | None = None
    """Function ``answer_logits(model, sample)`` that returns the logits at every token of a sample's own answer
    ``[positions, vocabulary]``, for the divergence from a baseline; ``None`` for a sample without an answer."""
    counted_logits: Callable[..., Tensor] | None = None
    """Function ``counted_logits(model, sample, positions)`` that returns the logits at as many token positions as
    another model has, for a family that finds out by itself how many there are; ``None`` for its own number."""
    modalities: Callable[..., Sequence[str]] | None = None
    """Function ``modalities(model, sample, block)`` that returns the kind (``text``, ``audio`` ...) of every token that
    a block is given when ``forward`` runs the sample."""
    optimize_for_inference: Callable[[nn.Module], tuple[str, ...]] | None = None
    """Function that makes a compressed module fast in place and returns a line for each change. Stored weights do not
    depend on it."""

    def __post_init__(self) -> None:
        """Wrap the functions that run a model: an error of a library becomes a ``SourceError`` that names the model.

        Raises:
            TypeError: A value is not a function.
        """
        for name, function in vars(self).items():
            if function is not None and not callable(function):
                raise TypeError(f"Runner.{name} takes a function, not {function!r}; see sottovoce.lazy")
        for name in ("forward", "predict", "probe", "answer_logits", "counted_logits"):
            if (function := getattr(self, name)) is not None:
                object.__setattr__(self, name, _with_model_errors(function))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model family, described once."""

    name: str
    """Name of the family, unique among the installed plugins."""
    matches: tuple[str, ...]
    """Model class names, as in ``config.json`` or ``config.yaml``."""
    layers: Layers
    """Layers to compress and to keep."""
    runner: Runner
    """Functions that run a model."""
    experts: tuple[ExpertLayout, ...] = ()
    """Places of the experts of a mixture. Experts are linear layers, one set per expert, so ``Layers.targets`` may name
    them: ``...experts.<number>.gate_proj``, ``up_proj`` and ``down_proj``."""
    shape: Shape = Shape()
    """Structure that may be pruned."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Names of the model's parts, each with a pattern of parameter names, for reports."""
    task: str = ""
    """Name of the task. Core has metrics for ``transcription`` and ``conversation``; a plugin may add its own."""
    inputs: tuple[str, ...] = ("audio",)
    """Fields that a sample must have for this family: ``audio``, ``text`` or ``messages``."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recipes of the family, by name, in the form that a YAML recipe has."""
    card: CardFacts = CardFacts()
    """Facts for the model card."""

    configuration: Callable[..., Any] | None = None
    """Function ``configuration(model)`` that returns the configuration by which the model's own class builds its
    layers, an object or nested dictionaries; by default ``model.native.config``."""
    processor: Callable[[Path], Any] | None = None
    """Function that loads the processor of a transformers model from a directory, where ``AutoProcessor`` fails."""
    resolve: Callable[..., Any] | None = None
    """Function ``resolve(name, options)`` that turns a name that is not a directory (a library's alias) into a
    :class:`~sottovoce.Repository`; ``None`` for names of other families."""

    def __post_init__(self) -> None:
        """Refuse values of another type, which would be misread.

        Raises:
            TypeError: A record is not of its class, or a string is given in place of a tuple.
        """
        records: dict[str, type] = {"layers": Layers, "runner": Runner, "card": CardFacts, "shape": Shape}
        for name, record in records.items():
            if not isinstance(getattr(self, name), record):
                raise TypeError(f"Architecture.{name} takes sottovoce.{record.__name__}, not {getattr(self, name)!r}")
        for name in ("matches", "inputs"):
            _check_tuple(f"Architecture.{name}", getattr(self, name))

    def part_of(self, name: str) -> str:
        """Return the part that the parameter or module ``name`` belongs to, or ``other``."""
        return next((part for part, pattern in self.parts.items() if matches(name, "", pattern)), "other")


def _check_tuple(name: str, value: object) -> None:
    if isinstance(value, str):
        raise TypeError(f"{name} takes a tuple of names or patterns: write ({value!r},)")


def lazy(reference: str) -> Callable[..., Any]:
    """Return a function that imports ``module:name`` when it is called, and calls it.

    The description of a family must not import torch or a model library; the functions that need them may.
    """
    module, _, name = reference.partition(":")

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    return call


def _with_model_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(model: Any, *arguments: Any) -> Any:
        on = f" on the sample {arguments[0].key[:40]!r}" if arguments else ""
        with as_source_error(model.source.name, f"the model does not run{on}"):
            return function(model, *arguments)

    return run
