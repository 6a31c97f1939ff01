"""When a training ends before its last epoch: the accuracy on the validation data has stopped to rise."""

from __future__ import annotations

from typing import NamedTuple


class Best(NamedTuple):
    """The best epoch so far: the first with the highest accuracy on the validation data."""

    epoch: int
    accuracy: float

    def after(self, epoch: int, accuracy: float) -> Best:
        """Return the best epoch after another one."""
        return Best(epoch, accuracy) if accuracy > self.accuracy else self


NO_EPOCH = Best(0, -1.0)


def epochs_left(patience: int, best: Best, epoch: int) -> int | None:
    """Return how many more epochs may pass without a better one, after `epoch`; None if there is no limit.

    >>> epochs_left(3, Best(5, 0.9), 6), epochs_left(3, Best(5, 0.9), 8), epochs_left(0, Best(5, 0.9), 8)
    (2, 0, None)
    """
    return max(0, patience - (epoch - best.epoch)) if patience else None
