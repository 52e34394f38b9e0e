"""The GPU that is not there refuses what a real one refuses, and computes the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.elsewhere import There, elsewhere

REFUSED: dict[str, Callable[[Tensor], object]] = {
    "two devices in one operation": lambda there: there + torch.ones(3),
    "the other way round": lambda there: torch.ones(3) + there,
    "a sum written to the CPU": lambda there: torch.zeros(()).add_(there.sum()),
    "a stack of both": lambda there: torch.stack([torch.zeros(()), there[0]]),
    "rows picked by a number on the CPU": lambda there: there.index_select(0, torch.tensor(0)),
    "a look at an array": lambda there: there.numpy(),
    "chance of the CPU": lambda there: there.normal_(generator=torch.Generator()),
    "chance of the CPU for something new": lambda _: torch.randn(
        3, generator=torch.Generator(), device="cuda"
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_gpu_refuses_is_refused(what: str) -> None:
    with elsewhere(), pytest.raises((RuntimeError, TypeError)):
        REFUSED[what](torch.ones(3).to("cuda"))


def test_what_a_gpu_computes_comes_back_as_the_cpu_computes_it() -> None:
    def work(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        y = (x[[2, 0]] * torch.tensor(2.0) + x.new_tensor([1.0, 3.0])).where(x[:2] > 0, 0).sum()
        y = y + torch.arange(3, device=x.device).float() @ x + x[torch.tensor([1])].sum()
        y.backward()
        assert x.grad is not None
        return x.grad

    numbers = torch.tensor([1.0, -2.0, 3.0])
    with elsewhere():
        there = work(numbers.to("cuda"))
        assert isinstance(there, There)
        assert there.device.type == "cuda"
        assert there.tolist() == work(numbers).tolist()
        assert type(there.cpu()) is Tensor


def test_outside_nothing_leads_there() -> None:
    with elsewhere():
        assert isinstance(torch.zeros(1, device="cuda"), There)
    if not torch.cuda.is_available():
        with pytest.raises((RuntimeError, AssertionError)):
            torch.zeros(1, device="cuda")
