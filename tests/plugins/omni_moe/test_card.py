"""What a card of the family shows is what runs."""

from __future__ import annotations

import json
import os

from environments import ROOT
from forked import run_code
from sottovoce_omni_moe.architectures import OMNI_MOE

MODEL = ROOT / "examples" / "models" / "tiny-omni"
DATA = ROOT / "examples" / "data" / "omni-tasks"

# Stock transformers wants torchvision for the processor; everything else of what is shown runs as it stands.
OWN_PROCESSOR = """
from pathlib import Path
from sottovoce_omni_moe.processor import load_processor

class AutoProcessor:
    from_pretrained = staticmethod(lambda place: load_processor(Path(place)))
"""


def test_the_usage_prints_what_is_said() -> None:
    rows = [json.loads(line) for line in (DATA / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    row = next(row for row in rows if row["modality"] == "audio")
    asked = row["messages"][0]["content"]
    audio = next(item["audio"] for item in asked if item["type"] == "audio")
    code = OMNI_MOE.card.usage.format(directory=MODEL, audio=DATA / audio)
    code = code.replace("import AutoProcessor, ", "import ")
    question = next((item["text"] for item in asked if item["type"] == "text"), None)
    if question is not None:
        code = code.replace("What is said?", question)
    done = run_code(OWN_PROCESSOR + code, dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == row["target"]
