"""The distances against plain formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.training.distances import DISTANCES, Distance, absolute, earth_mover, kl, squared


@given(st.integers(0, 1000), st.floats(0.5, 8.0))
def test_kl_is_that_of_the_softened_distributions_times_the_squared_temperature(seed: int, temperature: float) -> None:
    source = torch.Generator().manual_seed(seed)
    ours, theirs = 3 * torch.randn(2, 5, 7, generator=source)
    p, q = (theirs / temperature).softmax(-1), (ours / temperature).softmax(-1)
    expected = temperature**2 * (p * (p.log() - q.log())).sum(-1)
    assert torch.allclose(kl(ours, theirs, temperature), expected, atol=1e-5)


def test_gradient_of_kl_keeps_its_size_when_the_temperature_grows() -> None:
    theirs = torch.tensor([[2.0, 0.0, -1.0]])
    sizes = []
    for temperature in (10.0, 20.0):
        ours = torch.zeros(1, 3, requires_grad=True)
        kl(ours, theirs, temperature).sum().backward()
        assert ours.grad is not None
        sizes.append(float(ours.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_earth_mover_counts_the_bins_that_probability_moves(bins: int) -> None:
    ours, theirs = torch.full((2, 1, 20), -50.0)
    theirs[0, 4], ours[0, 4 + bins] = 50.0, 50.0
    assert float(earth_mover(ours, theirs, 1.0)) == pytest.approx(bins)


def test_divergence_is_the_same_for_near_and_far_bins() -> None:
    theirs = torch.full((1, 20), -5.0)
    theirs[0, 4] = 5.0
    near, far = theirs.roll(1, -1), theirs.roll(10, -1)
    assert float(kl(near, theirs, 1.0)) == pytest.approx(float(kl(far, theirs, 1.0)))
    assert float(earth_mover(near, theirs, 1.0)) < 0.2 * float(earth_mover(far, theirs, 1.0))


def test_differences_are_means_over_each_item() -> None:
    ours, theirs = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    assert squared(ours, theirs, 1.0).tolist() == [2.5, 2.0]
    assert absolute(ours, theirs, 1.0).tolist() == [1.5, 1.0]
    assert squared(ours[:, 0], theirs[:, 0], 1.0).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("name", sorted(DISTANCES))
def test_distance_of_equal_outputs_is_zero(name: str) -> None:
    same = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(DISTANCES[name](same, same, 2.0), torch.zeros(4), atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_no_items_have_no_distances(distance: Distance) -> None:
    assert distance(torch.zeros(0, 4), torch.zeros(0, 4), 1.0).shape == (0,)
