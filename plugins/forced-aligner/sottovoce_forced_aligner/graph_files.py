"""Files that clients of an exported aligner read beside its graph: tokenizer, settings, and a client to run it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sottovoce.errors import SourceError
from sottovoce_forced_aligner.languages import LANGUAGES

if TYPE_CHECKING:
    from sottovoce import Model

SETTINGS, TOKENIZER, CLIENT = "aligner.json", "tokenizer.json", "align.py"
_WORD = "\ue000"
"""Letter that no template has."""
_HIGHEST_HZ = 8000
"""Highest frequency of the mel filters, which the feature extractor has as a constant."""


def write_companions(model: Model, directory: Path, graph: str, **settings: Any) -> None:
    """Write the files beside a graph.

    Args:
        model: The model that the graph is of.
        directory: Where it lies.
        graph: Name of the file that clients run unless they ask for another.
        **settings: Settings in the place of the model's own, such as ``longest_seconds`` of a graph that takes less.

    Raises:
        SourceError: The processor's template is none that a client could fill in.
    """
    model.processor.tokenizer.backend_tokenizer.save(str(directory / TOKENIZER))
    text = json.dumps({"graph": graph, **settings_of(model), **settings}, ensure_ascii=False, indent=1)
    (directory / SETTINGS).write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("onnx_client.py"), directory / CLIENT)


def settings_of(model: Model) -> dict[str, Any]:
    """Return what the processor does, in numbers."""
    from sottovoce_forced_aligner.reading import longest_window

    config, processor = model.native.config, model.processor
    extractor, audio = processor.feature_extractor, config.audio_config
    return {
        "sampling_rate": extractor.sampling_rate,
        "n_fft": extractor.n_fft,
        "hop_length": extractor.hop_length,
        "mels": audio.num_mel_bins,
        "highest_hz": _HIGHEST_HZ,
        "least_samples": extractor.min_length,
        "chunk_frames": 2 * audio.n_window,
        "window_frames": audio.n_window_infer,
        "prompt": _prompt(processor),
        "timestamp_token": config.timestamp_token_id,
        "bin_milliseconds": processor.timestamp_segment_time,
        "longest_seconds": longest_window(model.native, processor),
        "languages": LANGUAGES,
    }


def _prompt(processor: Any) -> dict[str, str]:
    """Return the parts of the processor's prompt: those around the audio, between words, and behind the last."""
    content = [{"type": "audio", "audio": ""}, *[{"type": "text", "text": _WORD}] * 3]
    text = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    before, *behind = text.split(processor.audio_token)
    parts = behind[0].split(_WORD) if len(behind) == 1 else []
    if before != processor.audio_bos_token or len(parts) != 4 or parts[1] != parts[2]:
        raise SourceError("the processor's template is none of an aligner's; give the aligner's own processor")
    after, between, _, end = parts
    return {"before": before, "audio": processor.audio_token, "after": after, "between": between, "end": end}
