"""Any class of transformers as ``save_pretrained`` writes it: the writer of ``native`` that answers last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.checkpoint.machine_paths import is_path
from sottovoce.checkpoint.narrow_floats import stored_floats
from sottovoce.checkpoint.shard_writer import ShardWriter
from sottovoce.checkpoint.shards import WEIGHTS
from sottovoce.checkpoint.weights import stored_state, write_tensors
from sottovoce.formats import compressed_tensors
from sottovoce.formats.format import NATIVE
from sottovoce.formats.transformers.expert_weights import tied
from sottovoce.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from sottovoce.model import Model

_CONFIGURATIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
)
"""Files that may hold paths of the machine that wrote them."""


@hookimpl(trylast=True)
def sottovoce_export(model: Model, format: str, directory: Path) -> Path | None:
    """Write ``native``: what ``save_pretrained`` writes, with the quantized layers described in ``config.json``."""
    if format != NATIVE or not hasattr(model.native, "save_pretrained"):
        return None
    description = compressed_tensors.describe(model.module, model.architecture.layers.vllm_names)
    if description is None and model.rename is None and stored_floats(model.module) is None:
        model.native.save_pretrained(directory)
    else:
        _write_config(model.native, directory, description)
        _write_weights(model, directory)
        if model.native.can_generate():
            model.native.generation_config.save_pretrained(directory)
    if model.processor is not None:
        model.processor.save_pretrained(directory)
        _remove_call(directory / "tokenizer_config.json")
    for name in _CONFIGURATIONS:
        _remove_paths(directory / name)
    return directory


def _write_config(native: Any, directory: Path, description: dict[str, Any] | None) -> None:
    native.config.save_pretrained(directory)
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = [type(native).__name__]
    if description is not None:
        config["quantization_config"] = description
    _write_json(config, path)


def _write_json(config: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(model: Model, directory: Path) -> None:
    ties = tied(model.native)
    if model.rename is None:
        write_tensors(model.module, directory / WEIGHTS, left_out=ties)
        return
    writer = ShardWriter(directory)
    if model.stream is not None:
        model.stream.write(writer, model.rename, ties)
    else:
        state = stored_state(model.module)
        writer.add((model.rename(name), tensor) for name, tensor in state if name not in ties)
    writer.close()


def _remove_call(path: Path) -> None:
    """Remove what a tokenizer keeps of the call that loaded it: it says nothing of the model."""
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
        kept = {key: value for key, value in config.items() if key not in ("is_local", "local_files_only")}
        _write_json(kept, path)


def _remove_paths(path: Path) -> None:
    """Remove what a configuration keeps of the machine that it was made on, such as ``_name_or_path``."""
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = _without_paths(config)
    if kept != config:
        _write_json(kept, path)


def _without_paths(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: _without_paths(inner) for key, inner in value.items() if not (isinstance(inner, str) and is_path(inner))
    }
