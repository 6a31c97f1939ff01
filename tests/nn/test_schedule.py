"""The rate of every step is that of torch's schedulers, computed from the step's number alone."""

import pytest
import torch
from torch.optim import lr_scheduler

from streamtrain.nn.schedule import Schedule

STEPS, WARMUP = 60, 7


def rates_of_torch(make: object, warmup: int) -> list[float]:
    """What torch's schedulers say, step by step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    after = make(optimizer)  # type: ignore[operator]  # a function of the tests below
    scheduler = after
    if warmup:
        before = lr_scheduler.LinearLR(optimizer, 1 / (warmup + 1), 1, total_iters=warmup)
        scheduler = lr_scheduler.SequentialLR(optimizer, [before, after], [warmup])
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0, 1, WARMUP])
@pytest.mark.parametrize("kind", ["constant", "cosine", "step"])
def test_each_schedule_is_that_of_torch_after_its_warmup(kind: str, warmup: int) -> None:
    def of_torch(optimizer: torch.optim.Optimizer) -> object:
        if kind == "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, STEPS - warmup)
        if kind == "step":
            return lr_scheduler.StepLR(optimizer, 9, 0.5)
        return lr_scheduler.ConstantLR(optimizer, 1)

    schedule = Schedule(kind, 0.3, STEPS, warmup_steps=warmup, drop_steps=9, drop_factor=0.5)
    rates = [schedule.rate(step) for step in range(STEPS)]
    assert rates == pytest.approx(rates_of_torch(of_torch, warmup), rel=1e-9)
    assert rates[warmup] == 0.3
    assert all(0 < rate <= 0.3 for rate in rates)
