"""The pretended GPU refuses what a GPU refuses, and gives what the CPU gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from pretend_gpu import pretend_gpu, waits


@pytest.fixture(autouse=True)
def _gpu() -> Iterator[None]:
    with pretend_gpu(), torch.no_grad():
        waits.clear()
        yield


def here() -> Tensor:
    return torch.arange(12.0).view(3, 4)


def there() -> Tensor:
    return here().to("cuda")


@pytest.mark.parametrize(
    "make",
    [
        there,
        lambda: here().cuda(),
        lambda: torch.zeros(3, 4, device="cuda"),
        lambda: torch.zeros_like(there()),
        lambda: there() + 1,
        lambda: there()[1:],
        lambda: there().new_zeros(2),
        lambda: there().data,
        lambda: nn.Linear(4, 3).to("cuda").weight,
        lambda: nn.Linear(4, 3, device="cuda").weight,
        lambda: copy.deepcopy(nn.Linear(4, 3).to("cuda")).weight,
        lambda: torch.tensor([1.0], device=there().device),
        lambda: there().new_tensor([2, 3]),
        lambda: there().half().to(torch.float32),
        lambda: here().to(there()),
    ],
)
def test_what_is_on_the_gpu(make: Callable[[], Tensor]) -> None:
    made = make()
    assert (str(made.device), made.is_cuda, made.is_meta) == ("cuda:0", True, False)
    back = made.cpu()
    assert (type(back) in (Tensor, nn.Parameter), back.device.type) == (True, "cpu")


@pytest.mark.parametrize(
    "mix",
    [
        lambda: there() + here(),
        lambda: there() @ here().t(),
        lambda: torch.cat((there(), here())),
        lambda: here()[torch.zeros(1, dtype=torch.long, device="cuda")],
        lambda: there().add_(here()),
        lambda: here().add_(there()),
        lambda: torch.cat((there().flatten(), torch.ones(()).view(1))),
        lambda: nn.Linear(4, 3).to("cuda")(here()),
        lambda: there().__setitem__(torch.tensor([0]), here()[:1]),
        lambda: torch.equal(there(), here()),
        lambda: here() * there().sum(),
    ],
)
def test_tensors_of_both_devices_do_not_meet(mix: Callable[[], Tensor]) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        mix()


def test_what_may_meet() -> None:
    index, mask = torch.tensor([0, 2]), torch.tensor([True, False, True])
    assert there()[index].cpu().equal(here()[index])
    assert there()[mask].cpu().equal(here()[mask])
    assert (there() * torch.tensor(2.0)).cpu().equal(here() * 2)
    assert there().copy_(here() + 1).cpu().equal(here() + 1)
    assert here().copy_(there() + 1).equal(here() + 1)


def test_numbers_are_those_of_the_cpu() -> None:
    changed = there()
    changed[1].mul_(2)
    changed[0] = 7
    want = here()
    want[1] *= 2
    want[0] = 7
    assert changed.cpu().equal(want)
    assert torch.where(changed > 7, changed, -1.0).cpu().equal(torch.where(want > 7, want, -1.0))
    assert changed.tolist() == want.tolist()
    with torch.inference_mode():
        assert torch.softmax(changed[..., None], 1).cpu().equal(torch.softmax(want[..., None], 1))


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.cpu(),
        lambda x: x.sum().item(),
        lambda x: float(x[0, 0]),
        lambda x: bool(x.sum() > 0),
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
        lambda x: torch.zeros(3, 4).copy_(x),
        lambda x: x.to("cpu"),
    ],
)
def test_waiting_is_noted(wait: Callable[[Tensor], object]) -> None:
    x = there() + 1
    assert not waits
    wait(x)
    assert waits


@pytest.mark.parametrize("sizes", [(16, 8, 8), (17, 9, 8), (17, 8, 9)])
def test_products_of_integers_that_the_kernel_does_not_take(sizes: tuple[int, int, int]) -> None:
    rows, width, out = sizes
    x, weight = (torch.ones(size, dtype=torch.int8, device="cuda") for size in ((rows, width), (out, width)))
    with pytest.raises(RuntimeError, match="_int_mm"):
        torch._int_mm(x, weight.t())
