"""The layout that qwen-asr writes and the published checkpoint has: its tensors."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce import Architecture, LoadOptions, Model, Source
from sottovoce.checkpoint import load_strictly_, read_config, read_tensors
from sottovoce.checkpoint.limits import check_numbers
from sottovoce.checkpoint.shards import say_choice, weight_files
from sottovoce.errors import SourceError, as_source_error
from sottovoce.formats.transformers.building import apply_
from sottovoce.formats.transformers.configuration import stated_dtype
from sottovoce.formats.transformers.processors import load_processor
from sottovoce_forced_aligner.qwen_asr_configuration import processor, settings

if TYPE_CHECKING:
    from torch import Tensor

RECOGNIZER = "Qwen3ASRForConditionalGeneration"
"""The class that qwen-asr names in ``config.json``, for the recognizer and for the aligner alike."""

_TENSORS = (
    ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
    ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
    ("thinker.audio_tower.", "model.audio_tower."),
    ("thinker.model.", "model.language_model."),
    ("thinker.lm_head.", "score."),
)
"""Prefixes of tensor names here and in transformers; the first that fits counts."""


def load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """Build the transformers model from qwen-asr's files; ``None`` for files in the layout of transformers.

    Raises:
        SourceError: The files are those of the recognizer, or some are missing or damaged.
        CheckpointError: A tensor is missing, unexpected or misshapen.
    """
    directory = source.directory
    config = read_config(directory / "config.json")
    if RECOGNIZER not in (config.get("architectures") or ()):
        return None
    thinker = config.get("thinker_config")
    if not isinstance(thinker, dict) or "classify_num" not in thinker:
        raise SourceError(
            f"{directory}: is the recognizer (Qwen3-ASR), not the aligner; give Qwen/Qwen3-ForcedAligner-0.6B"
        )
    native = _model(directory, config, options).to(options.device).eval()
    return Model(
        module=native,
        native=native,
        processor=load_processor(directory, native.config, functools.partial(processor, config=config)),
        architecture=architecture,
        source=source,
    )


def _model(directory: Path, config: Mapping[str, Any], options: LoadOptions) -> Any:
    from transformers import AutoModelForTokenClassification
    from transformers.initialization import no_init_weights

    from sottovoce.checkpoint.budget import BuildingBudget

    tensors = _tensors(directory, options.weights)
    path = directory / "config.json"
    check_numbers(config, path)
    with as_source_error(path, "describes no model that transformers can build"):
        described = settings(path, config)
    apply_(described, options)
    build: Any = AutoModelForTokenClassification.from_config
    budget = BuildingBudget(directory, len(tensors), sum(tensor.nbytes for tensor in tensors.values()))
    with as_source_error(path, "transformers cannot build the model that it describes"), no_init_weights(), budget:
        native = build(described, dtype=_dtype(config, tensors, options))
    load_strictly_(native, tensors, str(directory), options.allow_unexpected)
    return native


def _tensors(directory: Path, weights: str | None) -> dict[str, Tensor]:
    """Return all tensors under transformers' names; a name that neither library knows stays, and is unexpected."""
    say_choice(directory, weights)
    paths = weight_files(directory, weights)
    return {_renamed(name): tensor for path in paths for name, tensor in read_tensors(path).items()}


def _renamed(name: str) -> str:
    return next((new + name.removeprefix(old) for old, new in _TENSORS if name.startswith(old)), name)


def _dtype(config: Mapping[str, Any], tensors: Mapping[str, Tensor], options: LoadOptions) -> Any:
    """Return the dtype that was asked for, else the configuration's, else the file's."""
    import torch

    name = options.dtype if options.dtype != "auto" else None
    name = name or config["thinker_config"].get("dtype") or config.get("dtype") or config.get("torch_dtype")
    stated = stated_dtype({"dtype": name}, Path("config.json"))
    if stated is not None:
        return getattr(torch, stated)
    return next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
