"""Memory of an int8 model that hears audio of many lengths."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import sottovoce
from forked import run_code
from sottovoce.runtime.backends import instructions, onednn

MODEL = Path(__file__).parents[3] / "examples/models/tiny-paraformer"
SCRIPT = """
import sys

import numpy

import sottovoce
from sottovoce.system.machine import resident_memory

model = sottovoce.load(sys.argv[1])
# Loaded with the model: an import of its own would bring all of FunASR.
sys.modules["sottovoce_paraformer.sanm_layers"]._NARROW = int(sys.argv[2])
noise = numpy.random.default_rng(0).normal(0, 0.1, 16000 * 6).astype("float32")
before = 0
for frames in range(10, 90):
    sottovoce.transcribe(model, noise[: frames * 960])
    before = before or resident_memory()
print(resident_memory() - before)
"""


@pytest.mark.skipif(not onednn.supported(), reason="int8 layers run in another engine here")
@pytest.mark.parametrize("narrow", [256, 0], ids=["float32 attention", "bfloat16 attention"])
def test_memory_does_not_grow_by_a_megabyte_with_every_length_of_audio(narrow: int, tmp_path: Path) -> None:
    if not narrow and not instructions.bfloat16():
        pytest.skip("attention runs in float32 here, whatever its width")
    model = sottovoce.load(MODEL)
    sottovoce.compress(model, "int8")
    sottovoce.save(model, tmp_path / "int8")
    done = run_code(SCRIPT, dict(os.environ), tmp_path / "int8", str(narrow))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 * 1e6, done.stdout
