"""Filter banks in NumPy are those of FunASR's front end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from funasr.frontends.wav_frontend import WavFrontend

from sottovoce_paraformer.filter_banks import filter_banks, stacked

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.mark.parametrize("length", [400, 401, 559, 560, 1360, 1400, 16000, 35431])
@pytest.mark.parametrize(("window", "shift"), [(7, 6), (5, 1), (1, 1)])
def test_features_are_funasrs(length: int, window: int, shift: int) -> None:
    audio = np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32)
    frontend = WavFrontend(lfr_m=window, lfr_n=shift, dither=0.0)
    want, _ = frontend(torch.from_numpy(audio)[None], torch.tensor([length]))
    got = stacked(filter_banks(audio, 80), window, shift)
    np.testing.assert_allclose(got, want[0].numpy(), atol=2e-3)


def test_silence_is_finite() -> None:
    assert np.isfinite(filter_banks(np.zeros(800, np.float32), 80)).all()
