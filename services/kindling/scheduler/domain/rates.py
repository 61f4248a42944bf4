"""A figure learned from samples of different worth, some of which mislead."""

import math
from collections import deque
from collections.abc import Iterator

_WINDOW, _DECAY = 8, 0.75
_LONG_WINDOW, _LONG_DECAY = 32, 0.9
_PRIOR_WEIGHT = 0.5


class LearnedRate:
    """The weighted median of the last eight samples; each counts three quarters of the one after it.

    One sample among others that agree moves nothing, however far off it is: weights are at most 1. Three in a row that
    agree with each other are believed. What was believed before counts as a sample half as heavy as the newest.

    A ``steady`` one is of 32 samples, each nine tenths of the one after it: seven in a row are believed. That suits
    what hardly changes, of which there are many samples, each of them noisy.
    """

    def __init__(self, *, steady: bool = False) -> None:
        self.count = 0
        window, self._decay = (_LONG_WINDOW, _LONG_DECAY) if steady else (_WINDOW, _DECAY)
        self._samples: deque[tuple[float, float]] = deque(maxlen=window)  # (value, weight), the newest first
        self._medians: dict[float | None, float] = {}  # by prior: asked for far more often than samples come

    def add(self, value: float, weight: float = 1.0) -> None:
        """Take a sample in; ``value`` is finite and not negative, ``weight`` at most 1."""
        self.count += 1
        self._samples.appendleft((value, min(weight, 1.0)))
        self._medians.clear()

    def value(self, prior: float | None = None) -> float | None:
        """Return what is believed; the prior if there is no sample, and none if there is no prior either."""
        if not self._samples:
            return prior
        if prior not in self._medians:
            self._medians = {prior: _median(sorted(self._weighed(prior)))}
        return self._medians[prior]

    def _weighed(self, prior: float | None) -> Iterator[tuple[float, float]]:
        for age, (value, weight) in enumerate(self._samples):
            yield value, weight * self._decay**age
        if prior is not None:
            yield prior, _PRIOR_WEIGHT


def _median(weighed: list[tuple[float, float]]) -> float:
    """The least value such that those up to it weigh half of all."""
    rest = math.fsum(weight for _, weight in weighed) / 2
    for value, weight in weighed:
        rest -= weight
        if rest <= 0:
            return value
    return weighed[-1][0]
