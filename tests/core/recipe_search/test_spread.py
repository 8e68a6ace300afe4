"""Few samples for all, and samples in two parts."""

from __future__ import annotations

from sottovoce import Sample, Samples
from sottovoce.recipe_search.spread import halves, spread

SAMPLES = Samples(
    tuple(Sample(key=str(number), text="a", modality="audio" if number % 4 else "text") for number in range(40))
)


def test_chosen_samples_are_spread_over_all_and_every_kind_is_among_them() -> None:
    chosen = spread(SAMPLES, 8)
    assert [sample.modality for sample in chosen].count("text") == 2
    numbers = [int(sample.key) for sample in chosen]
    assert numbers == sorted(numbers)
    assert max(numbers) - min(numbers) > 25
    assert {sample.modality for sample in spread(SAMPLES, 1)} == {"audio", "text"}
    assert spread(SAMPLES, 400) == SAMPLES.items


def test_halves_share_no_sample_and_have_as_many_of_a_kind() -> None:
    first, second = halves(SAMPLES)
    keys = [{sample.key for sample in part} for part in (first, second)]
    assert not keys[0] & keys[1]
    assert keys[0] | keys[1] == {sample.key for sample in SAMPLES}
    for part in (first, second):
        assert [sample.modality for sample in part].count("text") == 5
