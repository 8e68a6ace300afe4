"""Running one sample through a Paraformer: logits for the algorithms, text for the user."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from funasr.models.transformer.utils.nets_utils import make_pad_mask
from funasr.utils.load_utils import extract_fbank
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Prediction, Sample, read_audio
from sottovoce.errors import SamplesError
from sottovoce.system.audio import FRAME
from sottovoce_paraformer.recent_features import RecentFeatures
from sottovoce_paraformer.tokens import tokens_of

SURPLUS = 1e-3
"""Part of a token by which the weights of the frames exceed the number of tokens."""
_RECENT = RecentFeatures()


def waveform(model: Model, sample: Sample) -> NDArray[np.float32]:
    """Return the audio ``[time]`` at the rate of the model's front end; empty when it is shorter than one frame.

    Core reads it, not FunASR, which takes less than it should from files that are cut off.

    Raises:
        SamplesError: The sample has no audio that can be read; names it.
    """
    if sample.audio is None:
        raise SamplesError(f"sample {sample.key!r}: has no audio to recognize")
    rate = int(model.processor["frontend"].fs)
    audio = read_audio(sample.audio, rate, name=f"sample {sample.key!r}")
    return audio if len(audio) >= FRAME * rate else audio[:0]


def features(model: Model, sample: Sample) -> tuple[Tensor, Tensor]:
    """Return filter banks of a sample as FunASR computes them: ``[1, frames, features]`` and their length ``[1]``.

    Without the dither, which is random and would make two runs differ.

    Raises:
        SamplesError: As :func:`waveform`; or the audio is shorter than one frame.
    """
    audio = waveform(model, sample)
    if not len(audio):
        raise SamplesError(f"sample {sample.key!r}: is shorter than one frame of {1000 * FRAME:.0f} ms")
    frontend = copy.copy(model.processor["frontend"])
    frontend.dither = 0.0
    speech, lengths = extract_fbank([torch.from_numpy(audio)], data_type="sound", frontend=frontend)
    device = model.processor["device"]
    return speech.to(device), lengths.to(device)


def forward(model: Model, sample: Sample) -> Tensor:
    """Return log-probabilities ``[tokens, vocabulary]``.

    With a text the number of tokens is the text's, as in training, so that two models are compared position by
    position; without one it is what the CIF predictor finds.
    """
    return counted_logits(model, sample, None)


def counted_logits(model: Model, sample: Sample, positions: int | None) -> Tensor:
    """Return log-probabilities ``[tokens, vocabulary]`` at a number of tokens that another model found.

    Args:
        model: The model.
        sample: A sample.
        positions: The number of tokens; ``None`` for that of the text, or of the CIF predictor where there is none.
    """
    module: Any = model.module
    speech, lengths = _RECENT.get(sample, model.processor["frontend"], lambda: features(model, sample))
    encoded, encoded_lengths = module.encode(speech, lengths)
    acoustic, count = _acoustic(model, sample, encoded, encoded_lengths, positions)
    if count.max() < 1:
        return torch.zeros(0, module.vocab_size)
    scores: Tensor = decode(module, encoded, encoded_lengths, acoustic, count)[0]
    return scores.float()


def predict(model: Model, sample: Sample) -> Prediction:
    """Return text and timestamps by ``AutoModel.generate``, as a user gets them; tokens are characters and words."""
    audio = waveform(model, sample)
    if not len(audio):
        return Prediction()
    results = model.native.generate(input=audio, fs=model.processor["frontend"].fs, disable_pbar=True)
    text = results[0].get("text") if results else None
    if not text:
        return Prediction()
    return Prediction(text=text, tokens=tokens_of(text), timestamps=results[0].get("timestamp") or ())


def probe(model: Model) -> Sample:
    """Return two seconds of noise with a swell in it, and eight tokens to decode."""
    noise = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    swell = np.abs(np.sin(np.linspace(0, 12, 32000, dtype=np.float32)))
    return Sample(key="probe", audio=0.1 * noise * swell, text="一二三四五六七八")


def _acoustic(
    model: Model, sample: Sample, encoded: Tensor, lengths: Tensor, positions: int | None
) -> tuple[Tensor, Tensor]:
    module: Any = model.module
    if positions is None and sample.text is None:
        acoustic, count = module.calc_predictor(encoded, lengths)[:2]
        return acoustic, count.round().long()
    if positions is None:
        positions = len(model.processor["tokenizer"].encode(sample.text)) + module.predictor_bias
    mask = (~make_pad_mask(lengths, maxlen=encoded.size(1))[:, None, :]).to(encoded.device)
    count = torch.tensor([positions], device=encoded.device)
    # The weights of the frames are scaled to this sum. Were it the number itself, rounding would decide whether the
    # last token fires or is zero, and two models that are almost the same would differ in it.
    total = count + SURPLUS
    acoustic = module.predictor(encoded, None, mask, ignore_id=module.ignore_id, target_label_length=total)[0]
    return acoustic, torch.full_like(count, acoustic.size(1))


def decode(module: Any, encoded: Tensor, lengths: Tensor, acoustic: Tensor, count: Tensor) -> Tensor:
    """Return log-probabilities ``[batch, tokens, vocabulary]`` of what the predictor gathered, without hotwords."""
    if hasattr(module, "_seaco_decode_with_ASF"):
        scores: Tensor = module._seaco_decode_with_ASF(encoded, lengths, acoustic, count, hw_list=None)
        return scores
    scores = module.cal_decoder_with_predictor(encoded, lengths, acoustic, count)[0]
    return scores
