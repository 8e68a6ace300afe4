"""FunASR's ``AutoModel``, built strictly: nothing of a repository is run or followed, and every tensor must fit."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from sottovoce.system.process_state import exclusive, ignored_warnings, stdout_to
from sottovoce_paraformer.quick_import import import_funasr

# FunASR prints notices and warns while it is imported, of programs that it can do without; they tell a user nothing.
with stdout_to(io.StringIO()), ignored_warnings():
    import_funasr()
    import funasr

from sottovoce import LoadOptions, Repository
from sottovoce.checkpoint import leave_file_, load_strictly_, read_tensors
from sottovoce.checkpoint.budget import BuildingBudget
from sottovoce.checkpoint.download import fetch
from sottovoce.errors import SourceError, as_source_error
from sottovoce.formats import compressed_tensors
from sottovoce.runtime.layers import pack_
from sottovoce_paraformer import configuration, heads
from sottovoce_paraformer.aliases import BUILT_IN, find
from sottovoce_paraformer.configuration_keys import KEPT_HEADS
from sottovoce_paraformer.lora import merged

_DRAWING = frozenset(
    name for name in (*dir(torch.nn.init), "bernoulli_", "exponential_") if name.endswith("_") and name[0] != "_"
)
"""Functions and methods that give a new tensor its first values."""
_SEED = "set_all_random_seed"


class AutoModel(funasr.AutoModel):  # type: ignore[misc]  # FunASR is not typed
    """A ``funasr.AutoModel`` that is built without running anything from the model's directory.

    FunASR keeps random weights where a file does not fit, follows references to other repositories and may run code
    that a repository brings; here all that is an error.
    """

    @staticmethod
    def build_model(**options: Any) -> tuple[torch.nn.Module, dict[str, Any]]:
        """Build one model (the recognizer, the VAD, ...) from its directory, alias or id."""
        if "model_conf" in options or options["model"] in BUILT_IN:
            return funasr.AutoModel.build_model(**options)  # type: ignore[no-any-return]
        directory = _directory(options)
        described = configuration.read(directory, options.pop("weights", None))
        config = described.settings
        config.setdefault("model_conf", {})
        allow = options.pop("allow_unexpected", ())
        settings = _merged(config, options) | {
            "model": configuration.original_name(config.get("model")),
            "model_path": str(directory),
        }
        tensors = merged(read_tensors(described.weights), described.low_rank, str(described.weights))
        module, kwargs = _build(settings, directory, tensors)
        with as_source_error(directory, "its weights cannot be put into the model"):
            restore_(module, tensors, str(described.weights), config, allow)
        return module.to(kwargs["device"]).eval(), kwargs


def restore_(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    where: str,
    config: Mapping[str, Any],
    allow: tuple[str, ...] = (),
) -> None:
    """Load the weights of a module that was built without, as its configuration says that it was compressed.

    Attention heads are removed first, then layers are quantized; quantized layers are made fast.

    Raises:
        SourceError: The description of heads or of quantized layers does not fit the module.
        CheckpointError: A tensor is missing, unexpected or misshapen.
    """
    quantization_config = config.get("quantization_config")
    if kept_heads := config.get(KEPT_HEADS):
        heads.prepare_(module, kept_heads, where)
    if quantization_config:
        compressed_tensors.prepare_(module, quantization_config, where)
    load_strictly_(module, tensors, where, allow)
    if quantization_config:
        from sottovoce_paraformer.sanm import optimize_for_inference

        # One after another, and before layers are packed together, so that memory holds hardly a weight twice.
        file = Path(where)
        pack_(module, file)
        leave_file_(module, file)
        optimize_for_inference(module)


def without_initialization() -> TorchFunctionMode:
    """Leave the parameters that this thread makes as they lie in memory: they are about to be loaded.

    Random numbers cost seconds. PyTorch has modes for each thread, while replaced functions are the whole process's.
    """
    return _Undrawn()


class _Undrawn(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draw nothing into a parameter; do all else."""
        options = kwargs or {}
        tensor = args[0] if args else options.get("tensor")
        if isinstance(tensor, torch.nn.Parameter) and getattr(func, "__name__", "") in _DRAWING:
            return tensor
        return func(*args, **options)


@contextlib.contextmanager
def _unseeded() -> Iterator[None]:
    """Keep FunASR from seeding the process's generators, which it does for weights that are replaced anyway."""
    builder, thread = sys.modules[funasr.AutoModel.__module__], threading.get_ident()
    seed = getattr(builder, _SEED)

    def seed_others(value: int) -> None:
        if threading.get_ident() != thread:
            seed(value)

    setattr(builder, _SEED, seed_others)
    try:
        yield
    finally:
        setattr(builder, _SEED, seed)


def _build(
    settings: dict[str, Any], directory: Path, tensors: Mapping[str, torch.Tensor]
) -> tuple[torch.nn.Module, dict[str, Any]]:
    budget = BuildingBudget(directory, len(tensors), sum(tensor.nbytes for tensor in tensors.values()))
    # FunASR does not check a configuration; whatever a wrong one raises is the configuration's fault.
    with (
        as_source_error(directory, "FunASR cannot build the model that it describes"),
        exclusive(),
        without_initialization(),
        _unseeded(),
        stdout_to(sys.stderr),
        budget,
    ):
        module, kwargs = funasr.AutoModel.build_model(**settings)
    return module, kwargs


def _merged(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the caller's options, section by section as FunASR merges them."""
    result = dict(config)
    for key, value in options.items():
        inner = result.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(inner, value) if both else value  # type: ignore[arg-type]
    return result


def _directory(options: dict[str, Any]) -> Path:
    """Return the model's directory; fetch it when it is an alias or an id."""
    name = str(options["model"])
    if Path(name).is_dir():
        return Path(name)
    hub = {"ms": "modelscope", "modelscope": "modelscope", "hf": "hf", "huggingface": "hf"}.get(str(options.get("hub")))
    revision = options.get("model_revision")
    load_options = LoadOptions(hub=hub, revision=None if revision == "master" else revision)  # type: ignore[arg-type]
    repository = find(name, load_options)
    if repository is None and name.count("/") != 1:
        raise SourceError(f"{name}: no such directory, and neither an alias that FunASR knows nor an id of a hub")
    repository = repository or Repository(id=name, hub=load_options.hub or "modelscope", revision=load_options.revision)
    return fetch(repository, load_options)[0]
