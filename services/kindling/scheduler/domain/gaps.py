"""The gaps between a checkpoint's calls, and what they tell of the one that has begun.

Two explanations compete: a habit, which is what a histogram of the gaps says, and none, which is that calls come at
their mean rate at any time. Each is believed as far as it has foretold the gaps that came. All of it forgets.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from kindling.scheduler.domain.outlooks import Outlook

HALF_LIFE_SECONDS = 86_400.0  # in which a gap's weight halves
BUCKETS_PER_OCTAVE = 8  # a bucket's gaps differ by 9 % at most
_LONGEST_GAP_SECONDS = 14 * 86_400.0
_DOUBT = 1.0  # the weight of "it is never called again", in gaps
_REBASE_EXPONENT = 500.0  # 2.0 to this is still far from the largest float
_MOST_EVIDENCE = 3.0  # odds of 20 to 1: what ends is doubted within a few calls
_ALIKE_BUCKETS = 6  # a habit foretells gaps up to 1.7 times as long or as short, too, the less the further off
_WITHOUT_HABIT = 2.0  # the weight, in gaps, of no habit in what a habit foretells


@dataclass(slots=True)
class Gaps:
    """Gaps of ``BUCKETS_PER_OCTAVE`` kinds per doubling; what each kind weighs is in units of a gap that ended at
    ``_origin``, so that an older one weighs less by itself."""

    _weights: dict[int, float] = field(default_factory=dict)
    _origin: float = 0.0
    _sum_weight: float = 0.0
    _sum_seconds: float = 0.0  # weighed likewise
    _evidence: float = 0.0  # the logarithm of the odds that there is a habit

    def add(self, seconds: float, now: float) -> None:
        """Take in a gap that ends now; ``seconds`` is above 0."""
        gap = min(seconds, _LONGEST_GAP_SECONDS)
        bucket = math.floor(BUCKETS_PER_OCTAVE * math.log2(gap))
        self._judge(bucket, now)
        exponent = (now - self._origin) / HALF_LIFE_SECONDS
        if exponent > _REBASE_EXPONENT:
            self._rebase(exponent, now)
            exponent = 0.0
        weight = math.exp2(exponent)
        self._weights[bucket] = self._weights.get(bucket, 0.0) + weight
        self._sum_weight += weight
        self._sum_seconds += weight * gap

    def foresee(self, elapsed: float, now: float, outlook: Outlook, unseen: float = 0.0) -> float:
        """What the outlook is after so long without a call, if what was never seen counts by ``unseen``.

        A gap's chance to be the one that has begun is its weight; that of no gap at all is ``_DOUBT``."""
        habit = 1 / (1 + math.exp(-self._evidence))
        lasting, counting = (habit * part for part in self._by_habit(elapsed, outlook))
        if self._sum_weight:
            per_second = self._sum_weight / self._sum_seconds
            lasting_without = (1 - habit) * self._sum_weight * math.exp(-per_second * elapsed)
            lasting += lasting_without
            counting += lasting_without * outlook.of_rate(per_second, 0.0, math.inf)
        scale = math.exp2((self._origin - now) / HALF_LIFE_SECONDS)
        return (scale * counting + _DOUBT * unseen) / (scale * lasting + _DOUBT)

    def lasting_from(self, elapsed: float) -> Iterator[float]:
        """The least seconds of each kind of gap that may last longer than what has passed."""
        return (_lower_edge(bucket) for bucket in self._weights if _lower_edge(bucket + 1) > elapsed)

    def _by_habit(self, elapsed: float, outlook: Outlook) -> tuple[float, float]:
        """The weight of gaps that last longer than what has passed, and what of it counts."""
        lasting = counting = 0.0
        for bucket, weight in self._weights.items():
            low, high = _lower_edge(bucket), _lower_edge(bucket + 1)
            if high > elapsed:
                begins = max(low, elapsed)
                left = weight * (high - begins) / (high - low)
                lasting += left
                counting += left * outlook.of_span(begins - elapsed, high - elapsed)
        return lasting, counting

    def _judge(self, bucket: int, now: float) -> None:
        """Compare how well each explanation foretold a gap of this kind, before it is learned from."""
        if self._sum_weight:
            per_second = self._sum_weight / self._sum_seconds
            low, high = _lower_edge(bucket), _lower_edge(bucket + 1)
            without = max(math.exp(-per_second * low) - math.exp(-per_second * high), 1e-9)
            scale = math.exp2((self._origin - now) / HALF_LIFE_SECONDS)
            alike = scale * sum(weight * _alike(bucket - other) for other, weight in self._weights.items())
            habit = (_WITHOUT_HABIT * without + alike) / (_WITHOUT_HABIT + scale * self._sum_weight)
            evidence = self._evidence + math.log(habit / without)
            self._evidence = min(_MOST_EVIDENCE, max(-_MOST_EVIDENCE, evidence))

    def _rebase(self, exponent: float, now: float) -> None:
        factor = math.exp2(-exponent)
        self._weights = {bucket: weight * factor for bucket, weight in self._weights.items()}
        self._sum_weight *= factor
        self._sum_seconds *= factor
        self._origin = now


def _lower_edge(bucket: int) -> float:
    return math.exp2(bucket / BUCKETS_PER_OCTAVE)


def _alike(difference: int) -> float:
    """How much of a gap's chance falls on a kind so many buckets off; all of them add up to 1."""
    return max(0, _ALIKE_BUCKETS - abs(difference)) / _ALIKE_BUCKETS**2
