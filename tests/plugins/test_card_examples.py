"""The first snippet of a card prints an output, run as its reader runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

import sottovoce
from sottovoce.plugins.host import default_host

ROOT = Path(__file__).parents[2]
AUDIO = ROOT / "examples/data/mandarin-commands/test/test-0001.flac"
SAID = "请把客厅的灯关闭"
MODELS = {"paraformer": "tiny-paraformer", "qwen3-forced-aligner": "tiny-aligner", "qwen3-omni-moe": "tiny-omni"}

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


@pytest.mark.parametrize("family", MODELS)
def test_example_of_a_family_prints_an_output(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    example = default_host().architectures[family].card.example
    model = sottovoce.load(ROOT / "examples/models" / MODELS[family])
    capsys.readouterr()
    exec(example.format(audio=AUDIO, text=SAID), {"sottovoce": sottovoce, "model": model})
    printed = capsys.readouterr().out
    assert SAID in printed if family != "qwen3-omni-moe" else printed.strip()
