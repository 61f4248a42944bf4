"""The hours of the day in which a checkpoint is called: what gaps do not tell of calls that come once a day or so."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from kindling.scheduler.domain.outlooks import Outlook

_HOUR = 3_600.0
_DAY = 86_400.0
_DAY_WEIGHT = 0.25  # of the last day in an hour's share of days
_SUREST_HOUR = 0.95
_FAR = 8.0  # times an outlook's seconds, beyond which nothing counts


@dataclass(slots=True)
class _Hour:
    share: float  # of days with a call in this hour, recent days weigh more
    day: int  # the last one with a call


@dataclass(slots=True)
class Hours:
    """The share of days with a call, for each hour of the day. ``day_seconds`` are seconds since some midnight."""

    _hours: dict[int, _Hour] = field(default_factory=dict)

    def add(self, day_seconds: float) -> None:
        """Take in a call."""
        hour, day = int(day_seconds // _HOUR) % 24, int(day_seconds // _DAY)
        known = self._hours.get(hour)
        if known is None:
            self._hours[hour] = _Hour(_DAY_WEIGHT, day)
        elif day > known.day:
            share = known.share * (1 - _DAY_WEIGHT) ** (day - known.day) + _DAY_WEIGHT
            self._hours[hour] = _Hour(min(1.0, share), day)

    def foresee(self, day_seconds: float, outlook: Outlook) -> float:
        """What the outlook is. Each hour is taken as a Poisson process as busy as its share of days with a call."""
        counting, none_before = 0.0, 1.0
        for begins, ends in _cut_at_hours(day_seconds, min(_FAR * outlook.seconds, _DAY)):
            rate = self._rate(begins)
            counting += none_before * outlook.of_rate(rate, begins - day_seconds, ends - day_seconds)
            none_before *= math.exp(-rate * (ends - begins))
        return counting

    def until_next(self, day_seconds: float) -> Iterator[float]:
        """Seconds until each hour with calls begins, tomorrow's if it has begun."""
        return ((hour * _HOUR - day_seconds) % _DAY or _DAY for hour in self._hours)

    def _rate(self, day_seconds: float) -> float:
        """Calls per second at a time, such that the hour has one with the probability that its share of days says."""
        known = self._hours.get(int(day_seconds // _HOUR) % 24)
        if known is None:
            return 0.0
        missed_days = max(0, int(day_seconds // _DAY) - known.day - 1)
        share = min(_SUREST_HOUR, known.share * (1 - _DAY_WEIGHT) ** missed_days)
        return -math.log1p(-share) / _HOUR


def _cut_at_hours(day_seconds: float, length_seconds: float) -> Iterator[tuple[float, float]]:
    """A stretch of time, cut where hours begin."""
    begins, end = day_seconds, day_seconds + length_seconds
    while begins < end:
        ends = min(end, (begins // _HOUR + 1) * _HOUR)
        yield begins, ends
        begins = ends
