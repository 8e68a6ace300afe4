"""Boundary shift, agreement with a baseline, words without length, words far off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sottovoce
import sottovoce_forced_aligner
from core.toy import ToyPlugin, make_host, make_model
from sottovoce import Metric, Prediction, Run, Sample, Samples, evaluate
from sottovoce.errors import SamplesError

Pairs = Sequence[tuple[float, float]]


def run_of(*predictions: Pairs) -> Run:
    count = len(predictions)
    return Run(
        predictions=[Prediction(text="", timestamps=pairs) for pairs in predictions],
        seconds=[1.0] * count,
        audio_seconds=[1.0] * count,
    )


def samples_of(*references: Pairs | None) -> Samples:
    items = []
    for number, pairs in enumerate(references):
        words = tuple({"text": "a", "start": start, "end": end} for start, end in pairs or ())
        items.append(Sample(key=f"s{number}", text="a", words=words))
    return Samples(tuple(items), Path("data.jsonl"))


def measure(samples: Samples, run: Run, baseline: Run | None = None) -> dict[str, Metric]:
    return {metric.name: metric for metric in sottovoce_forced_aligner.sottovoce_evaluate(samples, run, baseline)}


class AligningPlugin(ToyPlugin):
    """A toy that is scored as the aligner is."""

    @sottovoce.hookimpl
    def sottovoce_evaluate(self, samples: Samples, run: Run, baseline: Run | None) -> Iterable[Metric]:
        return sottovoce_forced_aligner.sottovoce_evaluate(samples, run, baseline)


def test_against_references() -> None:
    samples = samples_of([(0.0, 0.5), (0.5, 1.0)], [(0.0, 2.0)])
    found = measure(samples, run_of([(0.0, 0.58), (0.5, 1.0)], [(0.2, 4.0)]))
    assert set(found) == {"boundary_shift_ms", "zero_duration_words", "words_off_by_1s"}
    shift = found["boundary_shift_ms"]
    assert shift.value == pytest.approx((80 + 200 + 2000) / 6)
    assert shift.unit == "ms"
    assert shift.details["median_ms"] == 40.0
    assert shift.details["within_80_ms"] == pytest.approx(100 * 4 / 6, abs=0.001)
    assert found["words_off_by_1s"].value == 1
    assert found["words_off_by_1s"].details == {"words": 3, "against": "references"}
    assert found["zero_duration_words"].value == 0


def test_against_a_baseline() -> None:
    before, after = run_of([(0.0, 0.4), (0.4, 0.8)]), run_of([(0.0, 0.48), (0.4, 2.4)])
    found = measure(samples_of(None), after, before)
    assert found["boundary_agreement"].value == 50.0
    assert found["boundary_agreement"].details == {"identical": 2, "boundaries": 4, "within_80_ms": 75.0}
    assert found["boundary_shift_from_baseline_ms"].value == pytest.approx((80 + 1600) / 4)
    assert found["boundary_shift_max_ms"].value == pytest.approx(1600)
    assert found["words_off_by_1s"].value == 1
    assert found["words_off_by_1s"].details["against"] == "baseline"
    assert "boundary_shift_ms" not in found


def test_references_come_before_the_baseline() -> None:
    run = run_of([(0.0, 3.0)])
    found = measure(samples_of([(0.0, 3.0)]), run, run_of([(0.0, 0.4)]))
    assert found["words_off_by_1s"].value == 0
    assert found["boundary_shift_ms"].value == 0
    assert found["boundary_shift_max_ms"].value == pytest.approx(2600)


def test_the_baseline_itself_needs_nothing_to_compare_with() -> None:
    run = run_of([(0.1, 0.1), (0.1, 0.2)])
    found = measure(samples_of(None), run, run)
    assert {name: metric.value for name, metric in found.items()} == {"zero_duration_words": 1}


def test_only_families_that_align_are_measured(tmp_path: Path) -> None:
    host = make_host(ToyPlugin(predict=lambda model, sample: Prediction(text="a")), sottovoce_forced_aligner)
    report = evaluate(make_model(tmp_path / "toy"), samples_of(None), host=host)
    assert "cer" in report.metrics
    assert not {"boundary_agreement", "zero_duration_words"} & set(report.metrics)


def test_without_words_and_baseline_it_says_what_to_give() -> None:
    with pytest.raises(SamplesError, match=r"data.jsonl: 1 sample has no 'words'.* 's1'; give .*--baseline"):
        measure(samples_of([(0, 1)], None), run_of([(0, 1)], [(0, 1)]))


def test_other_words_are_an_error_that_names_the_sample() -> None:
    with pytest.raises(SamplesError, match=r"sample 's1': the model aligned 2 words, 'words' has 1"):
        measure(samples_of([(0, 1)], [(0, 1)]), run_of([(0, 1)], [(0, 1), (1, 2)]))
    with pytest.raises(SamplesError, match=r"sample 's0': the model aligned 1 word, the baseline has 2"):
        measure(samples_of(None), run_of([(0, 1)]), run_of([(0, 1), (1, 2)]))


@pytest.mark.parametrize("word", [{"text": "a", "start": 0}, {"text": "a", "start": None, "end": 1}, "a"])
def test_a_broken_word_is_an_error_that_names_the_sample(word: Any) -> None:
    samples = Samples((Sample(key="s", words=(word,)),), Path("data.jsonl"))
    with pytest.raises(SamplesError, match=r"data.jsonl: sample 's': .* needs a text, and start and end"):
        measure(samples, run_of([(0, 1)]))


def test_nothing_aligned_has_no_shift() -> None:
    found = measure(samples_of(None), run_of([]), run_of([]))
    assert found["boundary_agreement"].value is None
    assert found["boundary_shift_max_ms"].value is None


def test_evaluate_puts_the_baseline_beside_it(tmp_path: Path) -> None:
    # Each model runs once before, untimed; at last both are timed, of which no text is kept.
    times = chain([[(0.0, 0.0)]] * 2, repeat([(0.0, 0.08)]))
    host = make_host(AligningPlugin(predict=lambda model, sample: Prediction(text="a", timestamps=next(times))))
    source = make_model(tmp_path / "toy")
    report = evaluate(source, samples_of(None), source, host=host)
    zero = report.metrics["zero_duration_words"]
    assert (zero.value, zero.baseline) == (0, 1)
    assert report.metrics["boundary_agreement"].value == 50.0
    assert report.metrics["boundary_agreement"].baseline is None


boundaries = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=30)


@given(boundaries, st.integers(-2000, 2000))
def test_a_shift_of_everything_is_the_shift(pairs: list[tuple[int, int]], milliseconds: int) -> None:
    true = [(1 + start / 1000, 1 + end / 1000) for start, end in pairs]
    moved = [(start + milliseconds / 1000, end + milliseconds / 1000) for start, end in true]
    found = measure(samples_of(true), run_of(moved), run_of(true))
    size = abs(milliseconds)
    for name in ("boundary_shift_ms", "boundary_shift_max_ms", "boundary_shift_from_baseline_ms"):
        assert found[name].value == pytest.approx(size, abs=0.001)
    assert found["boundary_shift_ms"].details["within_80_ms"] == (100 if size <= 80 else 0)
    assert found["boundary_agreement"].value == (100 if size == 0 else 0)
    assert found["words_off_by_1s"].value == (len(pairs) if size > 1000 else 0)


@given(boundaries, boundaries)
def test_means_are_over_the_whole_set(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    true = [[(start / 1000, end / 1000) for start, end in pairs] for pairs in (first, second)]
    found = [[(0.0, 0.0)] * len(pairs) for pairs in true]
    whole = measure(samples_of(*true), run_of(*found))["boundary_shift_ms"]
    assert whole.value == pytest.approx(1000 * np.concatenate([np.ravel(pairs) for pairs in true]).mean())
    assert whole.details["median_ms"] <= whole.details["p95_ms"]


def test_a_sample_without_a_hypothesis_is_counted_and_not_compared() -> None:
    samples = samples_of([(0.0, 0.5)], [(0.0, 2.0), (2.0, 3.0)])
    run = run_of([(0.0, 0.6)], [])
    silent = Run(predictions=[run.predictions[0], Prediction()], seconds=run.seconds, audio_seconds=run.audio_seconds)
    found = measure(samples, silent)
    assert found["boundary_shift_ms"].value == pytest.approx(50)
    assert found["zero_duration_words"].details == {"words": 1, "without_hypothesis": 1}
    before = run_of([(0.0, 0.6)], [(0.0, 2.0), (2.0, 3.0)])
    assert measure(samples, silent, before)["boundary_agreement"].value == 100
    nothing = Run(predictions=[Prediction()] * 2, seconds=run.seconds, audio_seconds=run.audio_seconds)
    assert measure(samples, nothing)["boundary_shift_ms"].value is None


@pytest.mark.parametrize("time", [float("nan"), float("inf"), "nan", 10**400])
def test_a_time_that_is_no_number_is_an_error(time: Any) -> None:
    samples = Samples((Sample(key="s", text="a", words=({"text": "a", "start": 0.0, "end": time},)),))
    with pytest.raises(SamplesError, match="sample 's': .* start and end in seconds"):
        measure(samples, run_of([(0.0, 1.0)]))
