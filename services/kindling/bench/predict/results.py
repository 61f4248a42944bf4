"""What came of the same requests in the real cluster and in the simulator."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from kindling.bench.predict.profile import Profile
from kindling.scheduler.domain.values import Tier
from kindling.simulate.experiment import Setup


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


EstimateErrors = Mapping[Tier, Sequence[float]]
"""Of the real scheduler's decisions, by the slowest tier that a start came from: estimated over actual startup time,
less one."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Both for one seed, and the profile that the simulator had: as learned, and as machine and model."""

    seed: int
    real: Startups
    simulated: Startups
    profile: Profile
    workload: str
    gap_cv: float
    estimate_errors: EstimateErrors
    setup: Setup


@dataclass(frozen=True, slots=True)
class Results:
    """The replays, and what they come to together: every request and every start counts the same."""

    replays: tuple[Replay, ...]

    @property
    def real(self) -> Startups:
        """What was measured, of all seeds."""
        return _pooled([one.real for one in self.replays])

    @property
    def simulated(self) -> Startups:
        """What was foretold, of all seeds."""
        return _pooled([one.simulated for one in self.replays])

    @property
    def estimate_errors(self) -> dict[Tier, list[float]]:
        """Those of all seeds, of each tier that something started from."""
        found = {tier: list(self._errors(tier)) for tier in Tier}
        return {tier: errors for tier, errors in found.items() if errors}

    def _errors(self, tier: Tier) -> Iterator[float]:
        return chain.from_iterable(one.estimate_errors.get(tier, ()) for one in self.replays)


def _pooled(some: Sequence[Startups]) -> Startups:
    seconds = tuple(chain.from_iterable(one.seconds for one in some))
    return Startups(seconds, {tier: sum(one.starts_by_tier.get(tier, 0) for one in some) for tier in Tier})
