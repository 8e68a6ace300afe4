"""What a card of the family shows is what runs."""

from __future__ import annotations

import os

from environments import ROOT
from forked import run_code
from sottovoce_forced_aligner.architectures import FORCED_ALIGNER

AUDIO = ROOT / "examples" / "data" / "mandarin-commands" / "test" / "test-0001.flac"


def test_the_usage_prints_the_words_and_their_times() -> None:
    code = FORCED_ALIGNER.card.usage.format(
        directory=ROOT / "examples" / "models" / "tiny-aligner", audio=AUDIO, text="请把客厅的灯关闭"
    )
    done = run_code(code, dict(os.environ))
    assert done.returncode == 0, done.stderr
    words = eval(done.stdout.strip().splitlines()[-1], {})
    assert "".join(word["text"] for word in words) == "请把客厅的灯关闭"
    assert [word["end_time"] for word in words] == sorted(word["end_time"] for word in words)
    assert 1.5 < words[-1]["end_time"] < 4
