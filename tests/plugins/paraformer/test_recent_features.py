"""Features of samples that run again are remembered: the right ones, and only a few."""

from __future__ import annotations

import torch
from torch import Tensor

from sottovoce import Sample
from sottovoce_paraformer.recent_features import CAPACITY, LONGEST, RecentFeatures


class FrontEnd:
    """Counts how often it computes."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, rows: int = 3) -> tuple[Tensor, Tensor]:
        self.count += 1
        return torch.full((1, rows, 2), float(self.count)), torch.tensor([rows])


def test_the_same_sample_is_computed_once_and_its_features_may_be_changed() -> None:
    recent, frontend, sample = RecentFeatures(), FrontEnd(), Sample(key="a")
    for _ in range(3):
        speech, lengths = recent.get(sample, frontend, frontend)
        assert speech.eq(1).all()
        assert int(lengths) == 3
        speech *= 5
        lengths += 1
    assert frontend.count == 1


def test_another_sample_of_the_same_key_and_another_front_end_are_computed() -> None:
    recent, frontend, sample = RecentFeatures(), FrontEnd(), Sample(key="a")
    other = FrontEnd()
    recent.get(sample, frontend, frontend)
    recent.get(Sample(key="a"), frontend, frontend)
    recent.get(sample, other, other)
    assert (frontend.count, other.count) == (2, 1)


def test_samples_that_are_gone_are_not_taken_for_new_ones() -> None:
    recent, frontend = RecentFeatures(), FrontEnd()
    for number in range(5 * CAPACITY):
        speech, _ = recent.get(Sample(key=str(number)), frontend, frontend)
        assert speech.eq(number + 1).all()


def test_only_the_last_samples_are_remembered_and_no_long_one() -> None:
    recent, frontend = RecentFeatures(), FrontEnd()
    samples = [Sample(key=str(number)) for number in range(CAPACITY + 1)]
    for sample in samples:
        recent.get(sample, frontend, frontend)
    recent.get(samples[-1], frontend, frontend)
    assert frontend.count == CAPACITY + 1
    recent.get(samples[0], frontend, frontend)
    assert frontend.count == CAPACITY + 2
    long = Sample(key="long")
    for _ in range(2):
        recent.get(long, frontend, lambda: frontend(LONGEST + 1))
    assert frontend.count == CAPACITY + 4
