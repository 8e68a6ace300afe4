"""The stem's convolutions give what they gave, and never hold more than a few seconds between them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sottovoce_forced_aligner import stem


class Tower(nn.Module):
    """The stem as transformers runs it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv2d1 = nn.Conv2d(1, 8, 3, 2, padding=1)
        self.conv2d2 = nn.Conv2d(8, 8, 3, 2, padding=1)
        self.conv2d3 = nn.Conv2d(8, 8, 3, 2, padding=1)
        self.largest = 0
        for layer in (self.conv2d1, self.conv2d2, self.conv2d3):
            layer.register_forward_hook(self._note)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.conv2d1(x))
        x = functional.gelu(self.conv2d2(x))
        return functional.gelu(self.conv2d3(x))

    def _note(self, _: nn.Module, given: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            self.largest = max(self.largest, output.numel())


@pytest.mark.parametrize("seconds", [1, 4, 11])
def test_the_stem_gives_what_it_gave(seconds: int) -> None:
    tower, x = Tower(), torch.randn(seconds, 1, 32, 25)
    with torch.inference_mode():
        want = tower(x)
        names = list(tower.state_dict())
        before, tower.largest = tower.largest, 0
        assert stem.install_(tower)
        found = tower(x)
    assert torch.allclose(found, want, atol=1e-6)
    assert list(tower.state_dict()) == names
    assert tower.largest < before


def test_a_first_convolution_asked_for_alone_answers_as_a_tensor() -> None:
    tower, x = Tower(), torch.randn(6, 1, 32, 25)
    with torch.inference_mode():
        want = tower.conv2d1(x)
        stem.install_(tower)
        pending = tower.conv2d1(x)
        assert pending.shape == want.shape
        assert torch.allclose(torch.relu(pending), want.relu(), atol=1e-6)
        assert torch.allclose(tower.conv2d2(want), tower.conv2d2(pending).value(), atol=1e-6)


def test_gradients_are_recorded_as_ever() -> None:
    tower, x = Tower(), torch.randn(6, 1, 32, 25)
    stem.install_(tower)
    tower(x).sum().backward()
    assert tower.conv2d1.weight.grad is not None


def test_another_tower_is_left_alone() -> None:
    assert not stem.install_(nn.Linear(2, 2))


def test_in_bfloat16_the_activations_are_part_of_the_convolutions() -> None:
    tower, x = Tower().bfloat16(), torch.randn(6, 1, 32, 25).bfloat16()
    with torch.inference_mode():
        exact = Tower()(x.float())
        want = tower(x)
        assert stem.install_(tower)
        found = tower(x)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() < 1.1 * (want.float() - exact).norm()


def test_another_activation_than_the_exact_one_is_kept() -> None:
    tower, x = Tower(), torch.randn(6, 1, 32, 25)
    with torch.inference_mode():
        want = functional.gelu(tower.conv2d1(x), approximate="tanh")
        stem.install_(tower)
        pending = functional.gelu(tower.conv2d1(x), approximate="tanh")
        assert isinstance(pending, stem.Pending)
        assert torch.allclose(pending.value(), want, atol=1e-6)
        twice = functional.gelu(functional.gelu(tower.conv2d1(x)))
        assert torch.allclose(
            twice.value(), functional.gelu(functional.gelu(nn.Conv2d.forward(tower.conv2d1, x))), atol=1e-6
        )
