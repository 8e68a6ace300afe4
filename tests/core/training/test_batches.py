"""Order and batches of the samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.letters import SAMPLES
from sottovoce.errors import SamplesError
from sottovoce.training.batches import TrainingSet, batches_of_epoch


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=200), st.integers(1, 20), st.integers(0, 5))
def test_batches_are_full_and_no_sample_comes_twice(lengths: list[float], size: int, epoch: int) -> None:
    batches = batches_of_epoch(lengths, size, 0, epoch)
    numbers = [number for batch in batches for number in batch]
    assert {len(batch) for batch in batches} == {min(size, len(lengths))}
    assert len(set(numbers)) == len(numbers)
    assert len(numbers) > len(lengths) - size


def test_order_is_the_same_for_a_seed_and_another_in_every_epoch() -> None:
    lengths = [float(number % 7) for number in range(100)]
    assert batches_of_epoch(lengths, 8, 1, 0) == batches_of_epoch(lengths, 8, 1, 0)
    assert batches_of_epoch(lengths, 8, 1, 0) != batches_of_epoch(lengths, 8, 1, 1)
    assert batches_of_epoch(lengths, 8, 1, 0) != batches_of_epoch(lengths, 8, 2, 0)


def test_samples_of_a_batch_are_of_like_lengths() -> None:
    lengths = [float(number % 40) for number in range(400)]
    spreads = [
        max(lengths[number] for number in batch) - min(lengths[number] for number in batch)
        for batch in batches_of_epoch(lengths, 10, 0, 0)
    ]
    assert sum(spreads) / len(spreads) < 4


def test_held_out_samples_are_not_trained_on() -> None:
    parts = TrainingSet.of(tuple(SAMPLES), 0.25)
    assert len(parts.held_out) == 10
    keys = [sample.key for sample in (*parts.trained, *parts.held_out)]
    assert sorted(keys) == sorted(sample.key for sample in SAMPLES)


def test_one_sample_is_too_few() -> None:
    with pytest.raises(SamplesError, match="two samples or more"):
        TrainingSet.of(tuple(SAMPLES)[:1], 0.1)
