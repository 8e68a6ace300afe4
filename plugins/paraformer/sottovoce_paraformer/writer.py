"""FunASR's own layout on disk, pickle-free."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from sottovoce import Model
from sottovoce.checkpoint import write_tensors
from sottovoce.formats import compressed_tensors
from sottovoce_paraformer import configuration, heads
from sottovoce_paraformer.checkpoints import WEIGHTS
from sottovoce_paraformer.configuration_keys import KEPT_HEADS

_DESCRIPTION = {"framework": "pytorch", "model": {"type": "funasr"}, "pipeline": {"type": "funasr-pipeline"}}
"""Words by which ModelScope finds FunASR, where the source does not say them."""

_TASKS = {"transcription": "auto-speech-recognition"}
"""ModelScope's words for tasks, where they are not ours."""


def write(model: Model, directory: Path) -> Path:
    """Write ``config.yaml``, ``configuration.json``, ``model.safetensors`` and the files beside them.

    A dense model with all its heads is read by unmodified FunASR. Any other names a class that
    ``sottovoce_paraformer.register`` adds to FunASR, and no ``init_param``, since FunASR's own reading of weights would
    not notice a misfit.
    """
    source = model.source.directory
    compression = {
        "quantization_config": compressed_tensors.describe(model.module),
        KEPT_HEADS: heads.describe(model.module),
    }
    compression = {key: value for key, value in compression.items() if value}
    files = configuration.model_files(source)
    for name in dict.fromkeys(files.values()):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, directory / name)
    config = configuration.dense_config(source)
    for key, value in model.settings.items():
        section, _, name = key.rpartition(".")
        (config.setdefault(section, {}) if section else config)[name] = value
    metas: dict[str, Any] = {"config": configuration.CONFIG, **configuration.nested(files)}
    if compression:
        config["model"] = f"{configuration.REGISTER}.{config['model']}"
        config |= compression
    else:
        metas["init_param"] = WEIGHTS
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (directory / configuration.CONFIG).write_text(text, encoding="utf-8")
    description = {**_DESCRIPTION, **configuration.description(source), "file_path_metas": metas}
    if description.get("task") in (None, model.architecture.card.pipeline_tag):
        # Versions before 0.2 wrote the Hub's word.
        description["task"] = _TASKS.get(model.architecture.task, model.architecture.task)
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    (directory / configuration.DESCRIPTION).write_text(text, encoding="utf-8")
    write_tensors(model.module, directory / WEIGHTS)
    return directory
