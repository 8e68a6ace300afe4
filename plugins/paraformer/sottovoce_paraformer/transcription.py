"""Recognition of several waveforms at once, with hotwords and the times of words where the class has them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from funasr.models.transformer.utils.nets_utils import make_pad_mask
from funasr.utils.postprocess_utils import sentence_postprocess
from funasr.utils.timestamp_tools import ts_prediction_lfr6_standard
from numpy.typing import NDArray
from torch import Tensor

from sottovoce import Model, Recognition, Word, read_audio
from sottovoce.errors import UsageError
from sottovoce.system.audio import SAMPLE_RATE
from sottovoce.system.process_state import ignored_warnings
from sottovoce_paraformer.torch_filter_banks import features

_UPSAMPLED = 3
"""Times of words are predicted for a third of a frame."""
_CHARACTERS = re.compile(r"[\u4e00-\u9fa50-9]+")
_UNSPOKEN = frozenset({"<s>", "</s>", "<unk>", "<OOV>"})
"""Tokens that FunASR leaves out of a text."""


def recognize(
    model: Model, waveforms: Sequence[NDArray[np.float32]], hotwords: Sequence[str], language: str | None
) -> list[Recognition]:
    """Return what is said in each waveform ``[time]`` of 16 kHz, all in one batch.

    A waveform's result does not depend on what it shares the batch with, but for the rounding of int8 inputs, whose
    range is that of the batch.

    Raises:
        UsageError: The model takes no hotwords.
    """
    module: Any = model.module
    words = _hotwords(model, hotwords)
    speech, lengths = _features(model, waveforms)
    encoded, lengths = module.encode(speech, lengths)[:2]
    # The predictor's convolution sees one frame behind the last: behind audio that ends there, it is zero.
    encoded = encoded.masked_fill(make_pad_mask(lengths, maxlen=encoded.size(1))[:, :, None].to(encoded.device), 0.0)
    acoustic, counts = module.calc_predictor(encoded, lengths)[:2]
    counts = counts.round().long()
    if int(counts.max()) < 1:
        return [Recognition() for _ in waveforms]
    scores = _decode(module, encoded, lengths, acoustic, counts, words)
    results = []
    for row, count in enumerate(counts.tolist()):
        tokens = _tokens(model, scores[row, :count].argmax(dim=-1).tolist())
        times = _times(module, encoded[row : row + 1, : lengths[row]], counts[row : row + 1], tokens)
        results.append(_recognition(tokens, times))
    return results


def _features(model: Model, waveforms: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Return filter banks ``[batch, frames, features]`` and their lengths ``[batch]``, without random dither."""
    frontend = model.processor["frontend"]
    rate = int(frontend.fs)
    audio = [waveform if rate == SAMPLE_RATE else read_audio(waveform, rate) for waveform in waveforms]
    speech, lengths = features(frontend, [torch.from_numpy(samples) for samples in audio])
    device = model.processor["device"]
    speech = speech.to(device, next(model.module.parameters()).dtype if model.processor.get("fp16") else speech.dtype)
    return speech, lengths.to(device)


def _hotwords(model: Model, hotwords: Sequence[str]) -> list[Any] | None:
    """Return the tokens of each hotword; ``None`` without hotwords.

    Raises:
        UsageError: The class takes none.
    """
    if not hotwords:
        return None
    module: Any = model.module
    if not hasattr(module, "generate_hotwords_list"):
        name = type(module).__mro__[0].__name__
        raise UsageError(
            f"{model.source.name}: a {name} takes no hotwords; SeacoParaformer and ContextualParaformer do "
            "(paraformer-zh on ModelScope is one)"
        )
    # FunASR's own reader of hotwords opens files, fetches addresses, and writes the words to the log.
    tokenizer, statistics = model.processor["tokenizer"], model.processor["frontend"].cmvn_file
    path = Path(statistics).parent / "seg_dict" if statistics else None
    with ignored_warnings():
        from funasr.models.seaco_paraformer.model import load_seg_dict
    parts = load_seg_dict(str(path)) if path is not None and path.is_file() else {}
    return [*(tokenizer.tokens2ids(_parts(hotword, parts)) for hotword in hotwords), [module.sos]]


def _parts(hotword: str, parts: Mapping[str, str]) -> list[str]:
    """Return the tokens of a hotword, as FunASR has them: parts of words by its dictionary, or Chinese characters."""
    tokens: list[str] = []
    for word in hotword.lower().split():
        if word in parts:
            tokens += parts[word].split()
        elif _CHARACTERS.fullmatch(word):
            tokens += [token for character in word for token in parts.get(character, character).split()]
        else:
            tokens.append("<unk>" if parts else word)
    return tokens


def _decode(
    module: Any, encoded: Tensor, lengths: Tensor, acoustic: Tensor, counts: Tensor, hotwords: list[Any] | None
) -> Tensor:
    """Return log-probabilities ``[batch, tokens, vocabulary]``."""
    if hasattr(module, "_seaco_decode_with_ASF"):
        seaco: Tensor = module._seaco_decode_with_ASF(encoded, lengths, acoustic, counts, hw_list=hotwords)
        return seaco
    options = {} if hotwords is None else {"hw_list": hotwords}
    scores: Tensor = module.cal_decoder_with_predictor(encoded, lengths, acoustic, counts, **options)[0]
    return scores


def _tokens(model: Model, ids: Sequence[int]) -> list[str]:
    module: Any = model.module
    spoken = [number for number in ids if number not in (module.eos, module.sos, module.blank_id)]
    tokens: list[str] = model.processor["tokenizer"].ids2tokens(spoken)
    return tokens


def _times(module: Any, encoded: Tensor, count: Tensor, tokens: Sequence[str]) -> list[list[int]] | None:
    """Return start and end of each token in milliseconds; ``None`` for a class that has no times.

    Each waveform by itself: the predictor's recurrent layer reads what lies behind a waveform's end, too.
    """
    if not tokens or type(getattr(module, "predictor", None)).__name__ != "CifPredictorV3":
        return None
    length = torch.tensor([encoded.shape[1]], device=encoded.device)
    alphas, peaks = module.calc_predictor_timestamp(encoded, length, count)[2:4]
    last = _UPSAMPLED * encoded.shape[1]
    times: list[list[int]] = ts_prediction_lfr6_standard(alphas[0][:last], peaks[0][:last], list(tokens))[1]
    return times if len(times) == len(tokens) else None


def _recognition(tokens: Sequence[str], times: list[list[int]] | None) -> Recognition:
    """Return text and words of tokens: parts of words are joined, and letters of an abbreviation."""
    spoken = [number for number, token in enumerate(tokens) if token not in _UNSPOKEN]
    text = sentence_postprocess([tokens[number] for number in spoken])[0] if spoken else ""
    if times is None or not spoken:
        return Recognition(text=text)
    _, spans, words = sentence_postprocess(
        [tokens[number] for number in spoken], [list(times[number]) for number in spoken]
    )
    if len(words) != len(spans):  # FunASR loses the time of a token that is neither Chinese nor letters
        spans, words = [times[number] for number in spoken], [tokens[number].replace("@@", "") for number in spoken]
    timed = (Word(word, start / 1000, max(start, end) / 1000) for word, (start, end) in zip(words, spans, strict=True))
    return Recognition(text=text, words=tuple(timed))
