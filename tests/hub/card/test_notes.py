"""Notes of reports are said in Chinese, whatever number they have."""

from __future__ import annotations

import re

import pytest

from sottovoce_hub.card.translations import Translations


@pytest.mark.parametrize(
    "note",
    [
        "the inputs of 1 layer in 1 block were smoothed",
        "the inputs of 1,200 layers in 48 blocks were smoothed",
        "1 calibration sample is not of 16000 Hz, such as 'a'; resampled",
        "2,000 calibration samples are not of 16000 Hz, such as 'a'; resampled",
        "2 calibration samples are not of 16000 Hz, such as 'a'; they were resampled",
        "layers.3: 1 expert was given under 16 tokens and rounded to nearest: 3",
        "layers.3: 4 experts were given under 16 tokens and rounded to nearest: 3-6",
        "layers.3: 6 experts are super or protected, but only 1 is kept",
        "layers.3: 6 experts are super or protected experts, but only 3 are kept",
        "'layers.3': groups of 16, the largest that divides their inputs",
        "4 layers such as 'layers.3': groups of 16, the largest that divides their inputs; "
        "vLLM's kernels take 32, 64 or 128",
    ],
)
def test_a_note_with_a_number_is_translated(note: str) -> None:
    chinese = str(Translations("zh").sentence(note))
    assert re.search("[\u4e00-\u9fff]{4}", chinese), chinese
    assert not re.search("[a-z]{4,} [a-z]{2,}", chinese.replace("layers", "")), chinese


@pytest.mark.parametrize(
    ("key", "count", "text"),
    [("files_title", 1, "1 file, x"), ("files_title", 2, "2 files, x"), ("on_samples", "1", "x on 1 sample")],
)
def test_a_text_of_a_card_counts_in_the_singular(key: str, count: object, text: str) -> None:
    assert Translations("en")(key, count=count, size="x", value="x") == text
    assert Translations("zh")(key, count=count, size="x", value="x")
