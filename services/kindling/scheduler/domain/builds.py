"""How long models take to be built, while their weights arrive or not."""

from dataclasses import dataclass

from kindling.scheduler.domain.linear_fit import LinearFit
from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.values import Checkpoint

_PARAMETERS = 1e9  # that take as long as the rest, as far as is known before anything was built


@dataclass(frozen=True, slots=True)
class LearnedBuild:
    """What so many ``starts`` have taught about a checkpoint on a kind of device."""

    digest: str
    device_kind: str
    seconds: float
    starts: int


class Builds:
    """Knows each checkpoint by kind of device; one never built there is expected to take what others of its
    architecture and element type do, by their numbers of parameters."""

    def __init__(self) -> None:
        self._builds: dict[tuple[str, str], LearnedRate] = {}  # by digest and kind of device
        self._families: dict[tuple[str, str, str], LinearFit] = {}

    def learn(self, checkpoint: Checkpoint, device_kind: str, seconds: float, prior: float) -> None:
        """Take in how long a build took; ``prior`` is what was believed of builds on such devices."""
        self._builds.setdefault((checkpoint.digest, device_kind), LearnedRate()).add(seconds)
        if checkpoint.architecture and prior > 0:
            family = self._families.setdefault(_family(checkpoint, device_kind), LinearFit(prior / _PARAMETERS, prior))
            family.learn(checkpoint.parameter_count, seconds)

    def known(self, checkpoint: Checkpoint, device_kind: str) -> float | None:
        """Seconds that a build takes; none if nothing of its kind was built."""
        if (build := self._builds.get((checkpoint.digest, device_kind))) is not None:
            return build.value()
        family = self._families.get(_family(checkpoint, device_kind))
        return family.seconds(checkpoint.parameter_count) if family else None

    def learned(self) -> list[LearnedBuild]:
        """What was built, by digest and kind of device."""
        return [
            LearnedBuild(digest, device_kind, build.value() or 0.0, build.count)
            for (digest, device_kind), build in sorted(self._builds.items())
        ]


def _family(checkpoint: Checkpoint, device_kind: str) -> tuple[str, str, str]:
    return checkpoint.architecture, checkpoint.dtype, device_kind
