"""The facts a plugin states about a model family: data first, and a few functions."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import as_source_error
from sottovoce.recipe.scheme import Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sottovoce.model import LoadOptions, Model, Repository
    from sottovoce.samples import Prediction, Sample


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card says of the family and no measurement can tell."""

    pipeline_tag: str = ""
    """The Hub's task name, such as ``automatic-speech-recognition``."""
    library_name: str = ""
    """The library that loads the files, such as ``funasr``."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes."""
    usage: str = ""
    """Python that loads ``"{directory}"`` with the model's own library and prints what it makes of ``"{audio}"``, where
    ``"{text}"`` is said. Other braces are doubled."""
    hub_usage: Mapping[str, str] = field(default_factory=dict)
    """The same by the name of a repository, ``"{repository}"``, for every hub (``hf``, ``modelscope``) that the library
    itself loads from."""
    serving: Mapping[str, str] = field(default_factory=dict)
    """By format of ``sottovoce export``, Python that runs what it wrote to ``"{directory}"``."""
    translations: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By language (``zh``): what the family says in English, such as why a layer is kept, and the same in that
    language."""
    packages: tuple[str, ...] = ()
    """What ``usage`` needs, as ``pip install`` takes it."""


@dataclass(frozen=True, kw_only=True)
class ExpertLayout:
    """Where one part of a model keeps its experts, and what counts them."""

    part: str
    """The part's name in recipes and reports, such as ``decoder``."""
    experts: str
    """Pattern of the modules that hold the experts of a layer."""
    count: str
    """Path of the number of experts in the model's configuration, such as ``text_config.num_experts``."""
    router: str = "gate"
    """Name of the router beside the experts: its ``weight`` has a row for each, ``top_k`` of them run."""
    pruned: bool = True
    """Whether a recipe that does not name the part prunes it."""
    protect: Mapping[str, float] = field(default_factory=dict)
    """By kind of token (see ``Architecture.modalities``), the share of a layer's experts that pruning keeps for it,
    where a recipe does not say otherwise. Samples must have such tokens."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One model family, described once; core does the rest.

    Patterns are those of torchao's ``FqnToConfig`` and of compressed-tensors: an exact module name, ``re:`` and a
    regular expression that must match the whole name, or a module's class name.
    """

    name: str
    """The family's name, unique among the installed plugins."""
    matches: tuple[str, ...]
    """Model class names, as ``config.json`` or ``config.yaml`` give them."""
    targets: tuple[str, ...]
    """Patterns of the linear layers to quantize; each must meet something in every model of the family."""
    ignore: Mapping[str, str] = field(default_factory=dict)
    """Patterns of modules that stay as they are, each with the reason. They win over ``targets``."""
    spared: Mapping[str, str] = field(default_factory=dict)
    """Patterns of modules that stay unless a recipe's own targets name them, each with the reason."""
    float_inputs: Mapping[str, str] = field(default_factory=dict)
    """Patterns of targets whose inputs stay float whatever the recipe says, each with the reason.

    Their weights become float when they run, so scales for groups of inputs cost no time: in 8 bits they have them too.
    """
    blocks: tuple[str, ...] = ()
    """Patterns of the repeated layers, in forward order."""
    scaling: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = field(default_factory=dict)
    """By pattern of blocks: a module in the block, and what alone reads its output, linear layers and a router.

    The module's output may be divided by positive factors that the readers' weights are multiplied by, so between a
    linear layer and its readers only what commutes with them may lie, such as ReLU. A pair that a block lacks a name
    of, or whose sizes differ (values that several query heads share), is left alone. Names may be patterns: a reader's
    means all of them, and a source's, such as ``re:experts\\.(\\d+)\\.up_proj``, is a pair for each, whose readers are
    templates for its groups: ``experts.\\1.down_proj``.
    """
    activation_strategy: Strategy = "token"
    """Whether dynamic int8 inputs have a range for each row, or one for the tensor: faster, where no row stands out."""
    experts: tuple[ExpertLayout, ...] = ()
    """Where the experts of a mixture are. They are held as linear layers, one set for each expert, so ``targets`` may
    name them: ``...experts.<number>.gate_proj``, ``up_proj`` and ``down_proj``."""
    served_as: Mapping[str, str] = field(default_factory=dict)
    """By the name of a module, what vLLM calls the same one: layers in it are described under both names, since vLLM
    looks there for what is quantized."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Names of the model's parts, each with a pattern of parameter names, for reports."""
    min_coverage: float = 0.5
    """Share of all parameters that quantizing with the default targets changes at least."""
    task: str = ""
    """What is scored: ``transcription`` counts character and word errors, ``alignment`` compares the words' times."""
    inputs: tuple[str, ...] = ("audio",)
    """What a sample must have for this family: ``audio``, ``text`` or ``messages``."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Recipes of the family's own, by name, in the form that a YAML recipe has."""
    exports: tuple[str, ...] = ()
    """Formats of ``sottovoce export`` that a plugin writes this family in, beside ``native``, such as ``onnx``."""
    card: CardFacts = CardFacts()

    forward: Callable[[Model, Sample], Tensor]
    """Run one sample, return its logits ``[tokens, vocabulary]``: calibration, divergence, the probe of a reload."""
    predict: Callable[[Model, Sample], Prediction]
    """Run one sample as a user would, return the text and the tokens."""
    probe: Callable[[Model], Sample]
    """A short, fixed input that every model of the family takes."""
    modalities: Callable[[Model, Sample, str], Sequence[str]] | None = None
    """The kind (``text``, ``audio`` ...) of every token that a block is given when ``forward`` runs a sample:
    ``modalities(model, sample, block)``."""
    answer_logits: Callable[[Model, Sample], Tensor | None] | None = None
    """What the model expects at every token of a sample's own answer ``[positions, vocabulary]``, for the divergence
    from a baseline; ``None`` for a sample without one."""
    processor: Callable[[Path], Any] | None = None
    """Load the processor of a transformers model from a directory, where ``AutoProcessor`` would not do."""
    rewire: Callable[[nn.Module], tuple[str, ...]] | None = None
    """Make a compressed module fast in place, for inference; what is stored does not depend on it. Says what it did."""
    resolve: Callable[[str, LoadOptions], Repository | None] | None = None
    """Turn a name that is no directory (a library's alias) into a repository; ``None`` when it is not this family's."""
    align: Callable[..., Any] | None = None
    """Find the words of a transcript in audio: ``align(model, audio, text)``, with ``language=`` where it is not the
    family's own default, and ``progress=``, called with the seconds that are done and all seconds. Returns an object
    with ``words`` and with ``to_json`` (an object with ``duration``, ``words`` and, where the text does not seem to be
    what is said, ``warnings``), ``to_srt`` and ``to_textgrid``, which give text. Warnings are logged as well. Only for
    families whose task is ``alignment``."""

    def __post_init__(self) -> None:
        """Make what a library raises while a model runs the model's error, whoever runs it."""
        for name in ("forward", "predict", "probe", "answer_logits"):
            if (function := getattr(self, name)) is not None:
                object.__setattr__(self, name, _with_model_errors(function))

    def part_of(self, name: str) -> str:
        """The part that the parameter or module ``name`` belongs to, or ``other``."""
        return next((part for part, pattern in self.parts.items() if matches(name, "", pattern)), "other")


def lazy(reference: str) -> Callable[..., Any]:
    """A function by its ``module:name``, imported when it is first called.

    Describing a family must not import torch or a model library; the functions that need them may.
    """
    module, _, name = reference.partition(":")

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*arguments, **options)

    return call


def _with_model_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(model: Model, *sample: Sample) -> Any:
        on = f" on the sample {sample[0].key[:40]!r}" if sample else ""
        with as_source_error(model.source.name, f"the model does not run{on}"):
            return function(model, *sample)

    return run


def matches(name: str, class_name: str, pattern: str) -> bool:
    """Whether a module called ``name`` of class ``class_name`` is meant by ``pattern``."""
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    return pattern in (name, class_name)
