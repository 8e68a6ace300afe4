"""A tiny aligner on disk, two seconds of noise, and the command line in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from core.commands import Runner
from plugins.forced_aligner.tiny import make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("aligner") / "tiny"
    make_model(directory)
    return directory


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    return tmp_path / "a.wav"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Runner]:
    from transformers.utils import logging

    # The command line asks for this by the environment, which transformers reads once.
    logging.disable_progress_bar()
    yield Runner(monkeypatch, capfd)
    logging.enable_progress_bar()
