"""Every preset's result generates in FunASR itself, after one import, and hears what it heard in memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import sottovoce
from forked import run_code
from sottovoce import read_samples
from sottovoce.recipe.presets import PRESETS

EXAMPLES = Path(__file__).parents[3] / "examples"
DATA = EXAMPLES / "data" / "mandarin-commands"
EVERY_DAY = ("int8", "int4")
GROUPS = [
    pytest.param(EVERY_DAY, id="every day"),
    pytest.param(tuple(name for name in PRESETS if name not in EVERY_DAY), id="the others", marks=pytest.mark.slow),
]

pytestmark = pytest.mark.filterwarnings("ignore")  # FunASR's and torch's own

CLIENT = """
import json, sys
import sottovoce_paraformer.register
from funasr import AutoModel
job = json.load(sys.stdin)
for name, directory in job["directories"].items():
    model = AutoModel(model=directory, disable_update=True, disable_pbar=True)
    texts = [model.generate(input=audio)[0]["text"] for audio in job["audio"]]
    print("heard", json.dumps({"name": name, "texts": texts}))
"""


@pytest.mark.parametrize("presets", GROUPS)
def test_funasr_hears_what_is_heard_in_memory(presets: tuple[str, ...], tmp_path: Path) -> None:
    speech = read_samples(DATA / "calibration.jsonl").choose(12)
    audio = [str(sample.audio) for sample in list(read_samples(DATA / "test.jsonl"))[:4]]
    ours = {}
    for name in presets:
        model = sottovoce.load(EXAMPLES / "models" / "tiny-paraformer")
        needs_samples = PRESETS[name].needs_samples
        sottovoce.compress(model, name, speech if needs_samples else None)
        sottovoce.save(model, tmp_path / name)
        ours[name] = [model.native.generate(input=path)[0]["text"] for path in audio]
    job = {"directories": {name: str(tmp_path / name) for name in presets}, "audio": audio}
    done = run_code(CLIENT, dict(os.environ), given=json.dumps(job), imports=("torch", "funasr"))
    assert done.returncode == 0, done.stderr[-2000:]
    heard = [json.loads(line.removeprefix("heard ")) for line in done.stdout.splitlines() if line.startswith("heard ")]
    assert {one["name"]: one["texts"] for one in heard} == ours
    assert all(texts != [""] * len(audio) for texts in ours.values())
