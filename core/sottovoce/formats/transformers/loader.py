"""Any class of transformers, by the name in its ``config.json``: the loader and writer that answer last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.architecture import matches
from sottovoce.checkpoint.machine_paths import is_path
from sottovoce.checkpoint.safe_config import read_config
from sottovoce.checkpoint.shard_writer import ShardWriter
from sottovoce.checkpoint.shards import WEIGHTS, Shards, say_choice, weight_files
from sottovoce.checkpoint.stream import Rename, Stream
from sottovoce.checkpoint.weights import (
    ALLOW_HINT,
    Form,
    check_values,
    copy_tensors,
    forms,
    load_strictly_,
    without_memory,
    write_tensors,
)
from sottovoce.errors import CheckpointError, SourceError, UsageError, as_source_error
from sottovoce.formats import compressed_tensors
from sottovoce.formats.transformers.configuration import read_settings, stated_dtype
from sottovoce.formats.transformers.expert_weights import Names, fill_, has_conversions, tied
from sottovoce.formats.transformers.processors import check_files, load_processor
from sottovoce.model import LoadOptions, Model, Source
from sottovoce.plugins.hookspecs import hookimpl
from sottovoce.system.machine import available_memory
from sottovoce.text.plain_text import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from sottovoce.architecture import Architecture


_CONFIGURATIONS = ("config.json", "generation_config.json", "tokenizer_config.json", "processor_config.json",
                   "preprocessor_config.json")  # fmt: skip
_IMPLEMENTATIONS = {
    "attn_implementation": "_attn_implementation",
    "experts_implementation": "_experts_implementation",
}
"""Keyword arguments of ``from_pretrained`` that are no keys of a configuration, and where it puts them."""


@hookimpl(trylast=True)
def sottovoce_load(source: Source, architecture: Architecture, options: LoadOptions) -> Model | None:
    """Build a transformers model from a directory with a ``config.json``."""
    directory = source.directory
    if not (directory / "config.json").is_file():
        return None
    config = read_config(directory / "config.json")
    # Whatever the library reads beside the configuration is looked at before it reads any of it.
    check_files(directory)
    compressed = _is_compressed(config, directory)
    say_choice(directory, options.weights)
    stream, rename = None, None
    if architecture.experts and not options.stream:
        options = replace(options, stream=_is_too_large(directory, options))
    if options.stream and options.device != "cpu":
        raise UsageError(
            f"{source.name}: a streamed model is worked on by the processor; leave out device={options.device}"
        )
    if compressed or architecture.experts or options.stream:
        native = _build(config, directory, options)
        if native.can_generate() and (directory / "generation_config.json").is_file():
            native.generation_config = _generation_config(directory)
        stream, rename = _fill_(native, directory, config if compressed else {}, architecture, options)
    else:
        native = _load_dense(directory, config, options)
    if stream is None:
        native = native.to(options.device)
    native.eval()
    if compressed and (optimize := architecture.runner.optimize_for_inference) is not None:
        optimize(native)
    processor = load_processor(directory, native.config, architecture.processor)
    return Model(
        module=native, native=native, processor=processor, architecture=architecture, source=source, stream=stream,
        rename=rename,
    )  # fmt: skip


@hookimpl(trylast=True)
def sottovoce_export(model: Model, format: str, directory: Path) -> Path | None:
    """Write ``native``: what ``save_pretrained`` writes, with the quantized layers described in ``config.json``."""
    if format != "native" or not hasattr(model.native, "save_pretrained"):
        return None
    description = compressed_tensors.describe(model.module, model.architecture.layers.vllm_names)
    if description is None and model.rename is None:
        model.native.save_pretrained(directory)
    else:
        _write_config(model.native, directory, description)
        _write_weights(model, directory)
        if model.native.can_generate():
            model.native.generation_config.save_pretrained(directory)
    if model.processor is not None:
        model.processor.save_pretrained(directory)
        _forget_loading(directory / "tokenizer_config.json")
    for name in _CONFIGURATIONS:
        _forget_paths(directory / name)
    return directory


def _forget_loading(path: Path) -> None:
    """Take out what a tokenizer keeps of the call that loaded it: it says nothing of the model."""
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in config.items() if key not in ("is_local", "local_files_only")}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _forget_paths(path: Path) -> None:
    """Take out what a configuration keeps of the machine that it was made on, such as ``_name_or_path``."""
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = _without_paths(config)
    if kept != config:
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _without_paths(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: _without_paths(inner) for key, inner in value.items() if not (isinstance(inner, str) and is_path(inner))
    }


def _is_too_large(directory: Path, options: LoadOptions) -> bool:
    """Whether the weights take more than half of what they may, or more than there is."""
    size = sum(path.stat().st_size for path in weight_files(directory, options.weights))
    if options.max_memory is not None:
        return 2 * size > options.max_memory
    free = available_memory()
    return free is not None and size > free


def _is_compressed(config: Mapping[str, Any], directory: Path) -> bool:
    """Whether the model is one of ours.

    Raises:
        SourceError: Another tool quantized it.
    """
    written = config.get("quantization_config")
    if written is None or compressed_tensors.is_own(written):
        return written is not None
    method = written.get("quant_method") if isinstance(written, Mapping) else written
    raise SourceError(
        f"{directory}: was quantized by another tool (quant_method {one_line(repr(method), 60)}); "
        "give the model that it was made from"
    )


def _class(config: Mapping[str, Any], directory: Path) -> Any:
    import transformers

    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    found = getattr(transformers, name, None) if name else None
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        raise SourceError(
            f"{directory}: transformers {transformers.__version__} has no model class {name[:60]!r}; a newer may"
        )
    return found


def _load_dense(directory: Path, config: dict[str, Any], options: LoadOptions) -> Any:
    from sottovoce.formats.transformers.default_dtype import own_default_type

    kind = _class(config, directory)
    # What is built without memory costs little, and says whether the files are of one model.
    built = _build(config, directory, options)
    shards = Shards.of(directory, options.weights)
    _check_types(built, shards, directory)
    if options.weights is not None:
        built.config.transformers_weights = options.weights
    # transformers sets it for the time in which it builds the module.
    with as_source_error(directory, "transformers cannot read the model"), own_default_type():
        native, info = kind.from_pretrained(
            directory,
            config=built.config,
            dtype=options.dtype or "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    allowed = options.allow_unexpected
    info["unexpected_keys"] = [
        name for name in info["unexpected_keys"] if not any(matches(name, "", pattern) for pattern in allowed)
    ]
    problems = [f"{len(info[key])} {key.split('_')[0]}: {', '.join(map(str, list(info[key])[:5]))}"
                for key in ("missing_keys", "mismatched_keys", "unexpected_keys") if info.get(key)]  # fmt: skip
    if problems:
        hint = "" if info["missing_keys"] or info["mismatched_keys"] else f"; {ALLOW_HINT}"
        raise CheckpointError(f"{directory}: the weights do not fit the model: {'; '.join(problems)}{hint}")
    check_values(native, str(directory))
    return native


def _check_types(native: Any, shards: Shards, directory: Path) -> None:
    """Refuse integers in the place of floats, which transformers would convert.

    Raises:
        CheckpointError: A tensor is of another type than the model's.
    """
    import torch

    own, converts = forms(native.state_dict()), has_conversions(native)
    for name, stored in Names.of(native, shards.names).stored.items():
        form = Form(shards.shape(stored), shards.dtype(stored))
        if name not in own and not converts:
            continue  # It is said to be unexpected.
        # A name that the model does not have may be a part of one.
        expected = own.get(name, Form(form.shape, torch.float32))
        if not expected._replace(shape=form.shape).takes(form):
            raise CheckpointError(f"{directory}: {one_line(stored, 90)} is {form}, where the model has {expected}")


def _build(config: dict[str, Any], directory: Path, options: LoadOptions) -> Any:
    """The model without memory for its weights."""
    import torch

    from sottovoce.checkpoint.budget import BuildingBudget
    from sottovoce.formats.transformers.default_dtype import own_default_type

    path = directory / "config.json"
    kind = _class(config, directory)
    shards = Shards(weight_files(directory, options.weights))
    settings = read_settings(kind, config, path)
    apply_(settings, options)
    stated = stated_dtype(config, path) or "float32"
    dtype = getattr(torch, stated if options.dtype in (None, "auto") else str(options.dtype))
    with (
        as_source_error(path, "transformers cannot build the model that it describes"),
        own_default_type(),
        without_memory(),
        BuildingBudget(directory, len(shards), shards.size_bytes),
    ):
        torch.set_default_dtype(dtype)
        return kind(settings)


def apply_(settings: Any, options: LoadOptions) -> None:
    """Put the native keyword arguments into a configuration of transformers, as ``from_pretrained`` does.

    Raises:
        UsageError: The configuration has no such key.
    """
    options.refuse_unknown({*settings.to_dict(), *_IMPLEMENTATIONS}, "transformers")
    for name, value in options.native.items():
        setattr(settings, _IMPLEMENTATIONS.get(name, name), value)


def _generation_config(directory: Path) -> Any:
    from transformers import GenerationConfig

    with as_source_error(directory / "generation_config.json", "cannot be read"):
        return GenerationConfig.from_pretrained(directory, local_files_only=True)


def _fill_(
    native: Any, directory: Path, config: dict[str, Any], architecture: Architecture, options: LoadOptions
) -> tuple[Stream | None, Rename | None]:
    """Put the weights into a built model; ``config`` is that of a compressed one."""
    from torch import nn

    from sottovoce.runtime.expert_skipping import install_skipping_
    from sottovoce.runtime.experts import unfuse_
    from sottovoce.runtime.int8_embedding import Int8Embedding
    from sottovoce.runtime.layers import pack_

    with as_source_error(directory / "config.json", "describes layers that cannot be put into the model"):
        unfuse_(native, architecture.experts)
        install_skipping_(native, native.config, architecture.experts)
        if config:
            compressed_tensors.prepare_(native, config["quantization_config"], directory / "config.json")
    if architecture.experts or options.stream:
        stream, rename = fill_(native, Shards.of(directory, options.weights), architecture, options, directory)
        if stream is None and config and options.device == "cpu":
            pack_(native)
        return stream, rename
    kinds = nn.Embedding, Int8Embedding
    tables = {f"{name}.weight" for name, child in native.named_modules() if isinstance(child, kinds)}
    tensors: dict[str, Tensor] = {}
    for path in weight_files(directory, options.weights):
        tensors |= copy_tensors(path, mapped=tables)
    load_strictly_(native, tensors, str(directory), options.allow_unexpected)
    del tensors  # or packing would hold every weight twice
    if options.device == "cpu":
        pack_(native)
    return None, None


def _write_config(native: Any, directory: Path, description: dict[str, Any] | None) -> None:
    native.config.save_pretrained(directory)
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = [type(native).__name__]
    if description is not None:
        config["quantization_config"] = description
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(model: Model, directory: Path) -> None:
    if model.rename is None:
        write_tensors(model.module, directory / WEIGHTS, left_out=tied(model.native))
        return
    writer = ShardWriter(directory)
    if model.stream is not None:
        model.stream.write(writer, model.rename, tied(model.native))
    else:
        ties = tied(model.native)
        state = {name: tensor for name, tensor in model.module.state_dict().items() if name not in ties}
        writer.add((model.rename(name), tensor) for name, tensor in state.items())
    writer.close()
