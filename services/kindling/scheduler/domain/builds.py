"""How long models take to be built, while their weights arrive or not."""

from dataclasses import dataclass

from kindling.scheduler.domain.linear_fit import LinearFit
from kindling.scheduler.domain.rates import LearnedRate
from kindling.scheduler.domain.values import Checkpoint

_PARAMETERS = 1e9  # that take as long as the rest, as far as is known before anything was built
_NOISE = 0.3  # of a build, relative: models of a family differ in more than their parameters, and builds are short


@dataclass(frozen=True, slots=True)
class LearnedBuild:
    """What so many ``starts`` have taught about a checkpoint on a kind of device; ``while_reading`` those during which
    its weights were read into DRAM."""

    digest: str
    device_kind: str
    while_reading: bool
    seconds: float
    starts: int


class Builds:
    """Knows each checkpoint by kind of device, and by whether its weights were read meanwhile: reading and checking
    them takes cores. One never built like this is expected to take what it did otherwise, and one never built there
    what others of its architecture and element type do, by their numbers of parameters."""

    def __init__(self) -> None:
        self._builds: dict[tuple[str, str], dict[bool, LearnedRate]] = {}  # by digest and kind; by while_reading then
        self._families: dict[tuple[str, str, str], LinearFit] = {}

    def learn(
        self, checkpoint: Checkpoint, device_kind: str, seconds: float, prior: float, *, while_reading: bool
    ) -> None:
        """Take in how long a build took; ``prior`` is what was believed of builds on such devices."""
        builds = self._builds.setdefault((checkpoint.digest, device_kind), {})
        builds.setdefault(while_reading, LearnedRate()).add(seconds)
        if checkpoint.architecture and prior > 0:
            first = LinearFit(prior / _PARAMETERS, prior, noise=_NOISE)
            family = self._families.setdefault(_family(checkpoint, device_kind), first)
            family.learn(checkpoint.parameter_count, seconds)

    def known(self, checkpoint: Checkpoint, device_kind: str, *, while_reading: bool) -> float | None:
        """Seconds that a build takes; none if nothing of its kind was built."""
        known = self._family_seconds(checkpoint, device_kind)
        if (builds := self._builds.get((checkpoint.digest, device_kind))) is None:
            return known
        for condition in (not while_reading, while_reading):
            if condition in builds:
                known = builds[condition].value(known)
        return known

    def _family_seconds(self, checkpoint: Checkpoint, device_kind: str) -> float | None:
        family = self._families.get(_family(checkpoint, device_kind))
        return family.seconds(checkpoint.parameter_count) if family else None

    def learned(self) -> list[LearnedBuild]:
        """What was built, by digest and kind of device."""
        return [
            LearnedBuild(*key, while_reading, build.value() or 0.0, build.count)
            for key, builds in sorted(self._builds.items())
            for while_reading, build in sorted(builds.items())
        ]


def _family(checkpoint: Checkpoint, device_kind: str) -> tuple[str, str, str]:
    return checkpoint.architecture, checkpoint.dtype, device_kind
