"""Filter banks in NumPy are those of FunASR's front end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from funasr.frontends.wav_frontend import WavFrontend

from plugins.paraformer.exported import cached
from plugins.paraformer.tiny import make_model
from sottovoce_paraformer.filter_banks import FrontEnd, filter_banks, stacked

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own


@pytest.mark.parametrize("length", [400, 401, 559, 560, 1360, 1400, 16000, 35431])
@pytest.mark.parametrize(("window", "shift"), [(7, 6), (5, 1), (1, 1)])
def test_features_are_funasrs(length: int, window: int, shift: int) -> None:
    audio = np.random.default_rng(length).normal(0, 0.1, length).astype(np.float32)
    frontend = WavFrontend(lfr_m=window, lfr_n=shift, dither=0.0)
    want, _ = frontend(torch.from_numpy(audio)[None], torch.tensor([length]))
    got = stacked(filter_banks(audio, 80), window, shift)
    np.testing.assert_allclose(got, want[0].numpy(), atol=2e-3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("front end"))


def test_front_end_of_a_models_files_is_funasrs(files: Path) -> None:
    options = yaml.safe_load((files / "config.yaml").read_text())["frontend_conf"]
    want = WavFrontend(cmvn_file=str(files / "am.mvn"), **{**options, "dither": 0.0})
    audio = np.random.default_rng(0).normal(0, 0.1, 20000).astype(np.float32)
    expected, _ = want(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
    got = FrontEnd.of_files(options, (files / "am.mvn").read_text())(audio)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected[0].numpy(), atol=2e-3)


@pytest.mark.parametrize(
    ("options", "statistics", "words"),
    [
        ({"window": "povey"}, None, "window povey"),
        ({}, "<Nnet>", "rows of statistics: 0, not 2"),
        ({"fs": 8000}, None, "fs 8000"),
    ],
)
def test_front_end_of_other_settings_or_damaged_statistics_is_refused(
    files: Path, options: dict[str, Any], statistics: str | None, words: str
) -> None:
    content = (files / "am.mvn").read_text() if statistics is None else statistics
    with pytest.raises(ValueError, match=words):
        FrontEnd.of_files(options, content)


def test_client_of_a_chinese_model_imports_no_torch(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = cached(tmp_path_factory, "Paraformer").directory
    code = f"""
import sys, numpy
from pathlib import Path
from sottovoce_paraformer.engines import OnnxRuntime
from sottovoce import Sample
run = OnnxRuntime().load(Path({str(directory)!r}))
run(Sample(key="a", audio=numpy.zeros(16000, numpy.float32)))
print({{"torch", "funasr"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"


def test_silence_is_finite() -> None:
    assert np.isfinite(filter_banks(np.zeros(800, np.float32), 80)).all()
