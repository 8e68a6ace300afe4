"""Any class of transformers, by the name in its ``config.json``: the loader and writer that answer last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.architecture import matches
from sottovoce.checkpoint.guard import contained_path, read_config
from sottovoce.checkpoint.weights import copy_tensors, load_strictly_, without_memory, write_tensors
from sottovoce.errors import CheckpointError, SourceError
from sottovoce.formats import compressed_tensors
from sottovoce.hookspecs import hookimpl
from sottovoce.model import LoadOptions, Model, Source

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.architecture import Architecture

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@hookimpl(trylast=True)
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """Build a transformers model from a directory with a ``config.json``."""
    directory = source.directory
    if not (directory / "config.json").is_file():
        return None
    config = read_config(directory / "config.json")
    compressed = compressed_tensors.is_own(config.get("quantization_config"))
    native = (_load_compressed if compressed else _load_dense)(directory, config, options)
    native = native.to(options.device).eval()
    if compressed and architecture.rewire is not None:
        architecture.rewire(native)
    return Model(
        module=native, native=native, processor=_processor(directory), architecture=architecture, source=source
    )


@hookimpl(trylast=True)
def sottovoce_export(model: Model, format: str, directory: Path) -> Path | None:
    """Write ``native``: what ``save_pretrained`` writes, with the quantized layers described in ``config.json``."""
    if format != "native" or not hasattr(model.native, "save_pretrained"):
        return None
    description = compressed_tensors.describe(model.module)
    if description is None:
        model.native.save_pretrained(directory)
    else:
        model.native.config.save_pretrained(directory)
        path = directory / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config |= {"architectures": [type(model.native).__name__], "quantization_config": description}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        write_tensors(model.module, directory / WEIGHTS)
        if model.native.can_generate():
            model.native.generation_config.save_pretrained(directory)
    if model.processor is not None:
        model.processor.save_pretrained(directory)
    return directory


def _class(name: str) -> Any:
    import transformers

    found = getattr(transformers, name, None)
    if found is None:
        raise SourceError(f"transformers {transformers.__version__} has no class {name!r}; a newer version may")
    return found


def _load_dense(directory: Path, config: dict[str, Any], options: LoadOptions) -> Any:
    from safetensors import SafetensorError

    _shards(directory)
    try:
        native, info = _class(config["architectures"][0]).from_pretrained(
            directory,
            dtype=options.dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options.native,
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise SourceError(f"{directory}: the weights cannot be read: {' '.join(str(error).split())[:200]}") from None
    allowed = options.allow_unexpected
    info["unexpected_keys"] = [
        name for name in info["unexpected_keys"] if not any(matches(name, "", pattern) for pattern in allowed)
    ]
    problems = [f"{len(info[key])} {key.split('_')[0]}: {', '.join(map(str, list(info[key])[:5]))}"
                for key in ("missing_keys", "mismatched_keys", "unexpected_keys") if info.get(key)]  # fmt: skip
    if problems:
        raise CheckpointError(f"{directory}: the weights do not fit the model: {'; '.join(problems)}")
    return native


def _load_compressed(directory: Path, config: dict[str, Any], options: LoadOptions) -> Any:
    import torch
    from torch import nn
    from transformers import AutoConfig

    from sottovoce.formats.layers import pack_

    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    kind = _class(config["architectures"][0])
    settings = AutoConfig.for_model(**plain) if "model_type" in plain else kind.config_class.from_dict(plain)
    dtype = getattr(torch, options.dtype or str(plain.get("dtype") or "float32"))
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with without_memory():
            native = kind(settings, **options.native)
    finally:
        torch.set_default_dtype(previous)
    compressed_tensors.prepare_(native, config["quantization_config"])
    tables = {f"{name}.weight" for name, child in native.named_modules() if isinstance(child, nn.Embedding)}
    tensors: dict[str, Tensor] = {}
    for path in _shards(directory):
        tensors |= copy_tensors(path, mapped=tables)
    load_strictly_(native, tensors, str(directory), options.allow_unexpected)
    del tensors  # or packing would hold every weight twice
    pack_(native)
    return native


def _shards(directory: Path) -> list[Path]:
    """The weight files; an index that names files outside the directory is refused."""
    index = directory / INDEX
    if not index.is_file():
        if not (directory / WEIGHTS).is_file():
            raise SourceError(f"{directory}: the weights are missing (no {WEIGHTS})")
        return [directory / WEIGHTS]
    names = read_config(index).get("weight_map")
    if not isinstance(names, dict):
        raise SourceError(f"{index}: has no weight_map")
    paths = [contained_path(directory, str(name)) for name in sorted(set(names.values()))]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise SourceError(f"{directory}: the weights are missing: {', '.join(missing)}")
    return paths


def _processor(directory: Path) -> Any:
    from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

    for auto, files in (
        (AutoProcessor, ("processor_config.json",)),
        (AutoFeatureExtractor, ("preprocessor_config.json",)),
        (AutoTokenizer, ("tokenizer_config.json",)),
    ):
        if any((directory / name).is_file() for name in files):
            return auto.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    return None
