"""What came of the same requests in the real cluster and in the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kindling.bench.predict.profile import Profile
from kindling.scheduler.domain.values import Tier


@dataclass(frozen=True, slots=True)
class Startups:
    """Startup seconds of each request, by the time of arrival, and how many instances started from which tier."""

    seconds: tuple[float, ...]
    starts_by_tier: Mapping[Tier, int]

    @property
    def mean(self) -> float:
        """Over all requests."""
        return float(np.mean(self.seconds))

    def quantile(self, share: float) -> float:
        """What such a share of the requests does not exceed."""
        return float(np.quantile(self.seconds, share))


@dataclass(frozen=True, slots=True)
class Results:
    """Both, and the profile that the simulator had."""

    real: Startups
    simulated: Startups
    profile: Profile
    workload: str
    gap_cv: float
