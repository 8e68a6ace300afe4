"""A Paraformer whose floats take 16 bits on disk, in FunASR itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors import safe_open

import sottovoce
from forked import run_code
from plugins.paraformer.tiny import make_model

SPEECH = Path(__file__).parents[3] / "examples" / "data" / "mandarin-commands" / "calibration.jsonl"
SCRIPT = """
import hashlib, json, sys
from funasr import AutoModel

assert "sottovoce" not in sys.modules
directory, audio = sys.argv[1:]
asr = AutoModel(model=directory, disable_update=True, disable_pbar=True, log_level="ERROR")
text = asr.generate(input=audio)[0]["text"]
digest = hashlib.sha256()
for name, tensor in sorted(asr.model.state_dict().items()):
    digest.update(name.encode() + tensor.numpy().tobytes())
print("RESULT" + json.dumps([text, str(next(asr.model.parameters()).dtype), digest.hexdigest()]))
"""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_unmodified_funasr_loads_the_rounded_weights(tmp_path: Path, dtype: str) -> None:
    import hashlib

    model = sottovoce.load(make_model(tmp_path / "model"))
    sottovoce.compress(model, {"steps": [{"step": "cast", "dtype": dtype}]})
    sottovoce.save(model, tmp_path / "small")
    with safe_open(tmp_path / "small" / "model.safetensors", "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert kinds == {{"float16": "F16", "bfloat16": "BF16"}[dtype]}
    audio = tmp_path / "noise.wav"
    soundfile.write(audio, 0.1 * np.random.default_rng(0).standard_normal(32000).astype(np.float32), 16000)
    done = run_code(SCRIPT, dict(os.environ), tmp_path / "small", audio, imports=("torch", "funasr"))
    assert done.returncode == 0, done.stderr
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    text, kind, digest = json.loads(result.removeprefix("RESULT"))
    expected = hashlib.sha256()
    for name, tensor in sorted(model.module.state_dict().items()):
        expected.update(name.encode() + tensor.numpy().tobytes())
    assert (kind, digest) == ("torch.float32", expected.hexdigest())
    assert text == sottovoce.transcribe(model, audio).text


@pytest.mark.parametrize("bits", [8, 4])
def test_fused_layers_compute_with_what_is_stored(tmp_path: Path, bits: int) -> None:
    model = sottovoce.load(make_model(tmp_path / "model"))
    samples = sottovoce.Samples(list(sottovoce.read_samples(SPEECH))[:12])
    quantize = {"step": "quantize", "bits": bits, "activations": "none" if bits == 4 else "dynamic"}
    # The samples run through the quantized blocks, which packs them before their biases are rounded.
    steps = [{"step": "prune_width", "keep": 0.5}, quantize, {"step": "cast", "dtype": "bfloat16"}]
    sottovoce.compress(model, {"steps": steps}, samples)
    sottovoce.save(model, tmp_path / "small")  # compares the outputs
