"""The frames of speech that a sample brings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sottovoce import Sample
from sottovoce.errors import SamplesError
from sottovoce.report.number_format import counted


def codes_in(sample: Sample, native: Any) -> Tensor | None:
    """Return the frames that the assistant's last message brings ``[frames, codebooks]``.

    Raises:
        SamplesError: They are not as many numbers a frame as the talker has codebooks, each of a code.
    """
    last = sample.messages[-1] if sample.messages else {}
    if not (frames := last.get("codes")) or not native.has_talker:
        return None
    config = native.config.talker_config
    groups, most = config.num_code_groups, config.code_predictor_config.vocab_size
    try:
        codes = torch.tensor(frames, dtype=torch.long)
    except (TypeError, ValueError):
        codes = torch.empty(0)
    if codes.ndim != 2 or codes.shape[1] != groups or not (0 <= int(codes.min()) <= int(codes.max()) < most):
        raise SamplesError(
            f"sample {sample.key!r}: 'codes' must be frames of {counted(groups, 'number')} each, from 0 to {most - 1}"
        )
    return codes
