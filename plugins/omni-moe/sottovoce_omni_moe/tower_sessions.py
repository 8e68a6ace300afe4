"""Exported towers in onnxruntime: for a check of the files, and in the place of a model's own towers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sottovoce.errors import OutputError, SourceError, reason
from sottovoce_omni_moe.towers_client import AUDIO, VISION, Run, Towers

_FRAMES = (730, 90)
"""Frames of two audios: one of several chunks, and one of less than a chunk."""
_SQUARES = 3
"""Squares of patches on each side of a picture."""


def open_towers(directory: Path, quantized: bool, threads: int = 0) -> Towers:
    """Return the client of an exported directory.

    Args:
        directory: What export wrote.
        quantized: If true, the graphs in int8 or int4, where a tower has one.
        threads: Number of threads; 0 is onnxruntime's choice.

    Raises:
        SourceError: The settings beside the graphs are missing or damaged.
    """
    from sottovoce.formats.onnx import OnnxSession

    def load(path: Path) -> Run:
        session = OnnxSession(path, threads)
        return lambda inputs: list(session.run(inputs).values())

    try:
        return Towers(directory, load, quantized)
    except (OSError, ValueError) as error:
        raise SourceError(f"{directory}: {reason(error)}; export the model again") from error


def check_graphs(directory: Path) -> None:
    """Run all graphs on noise, those of several sizes at once.

    Raises:
        OutputError: What one gives is not finite.
        SourceError: A file beside the graphs is missing or damaged.
    """
    for quantized in (False, True):
        towers = open_towers(directory, quantized)
        for name, outputs in _outputs(towers):
            _require_finite(towers.path(name), outputs)


def _outputs(towers: Towers) -> Iterable[tuple[str, list[Any]]]:
    """Yield what each tower that is there gives for noise."""
    import numpy

    random = numpy.random.default_rng(0)
    if AUDIO in towers.settings:
        mels = towers.settings[AUDIO]["mels"]
        features = random.standard_normal((mels, sum(_FRAMES)), numpy.float32)
        yield AUDIO, [towers.hear_frames(features, _FRAMES)]
    if VISION in towers.settings:
        settings = towers.settings[VISION]
        side = settings["merge"]
        grids = [(1, side, side), (2, _SQUARES * side, side)]
        count = sum(times * rows * columns for times, rows, columns in grids)
        yield VISION, towers.see(random.standard_normal((count, settings["values"]), numpy.float32), grids)


def _require_finite(path: Path, outputs: list[Any]) -> None:
    import numpy

    if not all(numpy.isfinite(output).all() for output in outputs):
        raise OutputError(f"{path.name}: gives numbers that are not finite; is a weight damaged?")


def run_in_model_(native: Any, towers: Towers) -> None:
    """Let a model's towers be those of an exported directory; whatever else it has stays in PyTorch."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import BaseModelOutputWithDeepstackFeatures

    model = native.thinker.model

    def as_tensor(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(model.dtype)

    def hear(input_features: torch.Tensor, feature_lens: torch.Tensor, **_: Any) -> Any:
        features = as_tensor(towers.hear_frames(input_features.float().numpy(), feature_lens.tolist()))
        return BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=features)

    def see(hidden_states: torch.Tensor, grid_thw: torch.Tensor, **_: Any) -> Any:
        features, *depths = map(as_tensor, towers.see(hidden_states.float().numpy(), grid_thw.tolist()))
        return BaseModelOutputWithDeepstackFeatures(pooler_output=features, deepstack_features=depths)

    if AUDIO in towers.settings:
        model.audio_tower.forward = hear
    if VISION in towers.settings:
        model.visual.forward = see
