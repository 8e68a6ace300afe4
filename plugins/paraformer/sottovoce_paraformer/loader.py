"""A FunASR model from a directory, with its companions for voice activity, punctuation and speakers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sottovoce import Architecture, LoadOptions, Model, Source
from sottovoce.errors import UsageError
from sottovoce.system.process_state import kept_logging, stdout_to
from sottovoce_paraformer.aliases import BUILT_IN
from sottovoce_paraformer.architectures import ARCHITECTURES
from sottovoce_paraformer.configuration_keys import FILES, KEPT_HEADS, USED

_COMPANIONS = ("vad", "punc", "spk")

_ACCEPTED = frozenset(
    (
        *USED - {"model", "quantization_config", KEPT_HEADS},
        *FILES[-1],
        "lm_file",
        "output_dir",
        "ncpu",
        "ngpu",
        "disable_update",
        "disable_pbar",
        "disable_log",
        "log_level",
        "check_latest",
        "fp16",
        "bf16",
        "spk_mode",
        *(f"{kind}_{what}" for kind in ("vad", "punc", "spk") for what in ("model", "kwargs", "model_revision")),
    )
)
"""Keyword arguments that FunASR's ``AutoModel`` honors; it takes any other in silence."""

_QUIET = {"disable_update": True, "trust_remote_code": False, "disable_pbar": True, "log_level": "ERROR"}


def load(source: Source, architecture: Architecture, options: LoadOptions) -> Model:
    """Build the ``AutoModel``; ``vad_model``, ``punc_model`` and ``spk_model`` in ``options.native`` become companions.

    Raises:
        SourceError: Files are missing, damaged or ask for something that is refused.
        CheckpointError: The weights do not fit.
        UsageError: FunASR has no such option.
    """
    options.refuse_unknown(_ACCEPTED, "FunASR")
    for kind in _COMPANIONS:
        _check_companion(options, kind)
    if options.dtype == "float64":
        raise UsageError("dtype=float64: FunASR runs float32, float16 and bfloat16")
    import torch

    from sottovoce_paraformer.auto_model import AutoModel

    # FunASR sets torch's threads to 4 by itself; the process's own setting stays.
    settings: dict[str, Any] = {**_QUIET, "ncpu": torch.get_num_threads(), "device": options.device, **options.native}
    if options.dtype in {"float16", "bfloat16"}:
        settings["fp16" if options.dtype == "float16" else "bf16"] = True
    settings["allow_unexpected"] = options.allow_unexpected
    settings["weights"] = options.weights
    if options.hub is not None:
        # FunASR passes it on to the companions.
        settings["hub"] = options.hub
    # FunASR prints its version and notices; what matters is raised.
    logging_of = contextlib.nullcontext if "log_level" in options.native else kept_logging
    with stdout_to(io.StringIO()), logging_of():
        native = AutoModel(model=str(source.directory), **settings)
    model = Model(module=native.model, native=native, processor=native.kwargs, architecture=architecture, source=source)
    for name in _COMPANIONS:
        if (module := getattr(native, f"{name}_model")) is not None:
            companion = _companion(module, native, getattr(native, f"{name}_kwargs"))
            if companion is not None:
                model.companions[name] = companion
    return model


def _check_companion(options: LoadOptions, kind: str) -> None:
    """Refuse options that a companion would ignore; a companion from a package has options of its own."""
    kwargs = options.native.get(f"{kind}_kwargs") or {}
    if not isinstance(kwargs, Mapping):
        raise UsageError(f"{kind}_kwargs must be a mapping, not {type(kwargs).__name__}")
    if options.native.get(f"{kind}_model") not in BUILT_IN:
        LoadOptions(native=dict(kwargs)).refuse_unknown(_ACCEPTED, f"FunASR, in {kind}_kwargs,")


def _companion(module: Any, native: Any, kwargs: dict[str, Any]) -> Model | None:
    kind = type(module).__name__
    architecture = next((family for family in ARCHITECTURES if kind in family.matches), None)
    if architecture is None:
        return None
    directory = Path(kwargs["model_path"])
    source = Source(name=str(directory), directory=directory)
    return Model(module=module, native=native, processor=kwargs, architecture=architecture, source=source)
