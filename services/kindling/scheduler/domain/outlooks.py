"""What is asked about the time of a next call: whether it comes soon enough, or how near it is."""

import math
from dataclasses import dataclass
from typing import Protocol


class Outlook(Protocol):
    """Sums up when a call may come, between 0 and 1: the sooner, the more. Times are seconds from now."""

    @property
    def seconds(self) -> float:
        """How far off a call counts for little or nothing."""
        ...

    def of_span(self, first: float, last: float) -> float:
        """The call comes between these times, at any of them as likely."""
        ...

    def of_rate(self, per_second: float, begins: float, ends: float) -> float:
        """Calls come at a rate, but only between these times; this is what of them counts."""
        ...

    def of_unknown(self, elapsed: float) -> float:
        """Nothing is known but that none has come for so long: it may last as long again."""
        ...


@dataclass(frozen=True, slots=True)
class Within:
    """The probability of a call within ``seconds``."""

    seconds: float

    def of_span(self, first: float, last: float) -> float:
        """See Outlook."""
        return (min(last, self.seconds) - min(first, self.seconds)) / (last - first)

    def of_rate(self, per_second: float, begins: float, ends: float) -> float:
        """See Outlook."""
        return -math.expm1(-per_second * max(0.0, min(ends, self.seconds) - begins))

    def of_unknown(self, elapsed: float) -> float:
        """See Outlook."""
        return self.seconds / (elapsed + self.seconds) if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near the next call is expected to be: exp(-t / ``seconds``) of the time t until it comes, in the mean."""

    seconds: float

    def of_span(self, first: float, last: float) -> float:
        """See Outlook."""
        passed = math.exp(-first / self.seconds) - math.exp(-last / self.seconds)
        return self.seconds * passed / (last - first)

    def of_rate(self, per_second: float, begins: float, ends: float) -> float:
        """See Outlook."""
        both = per_second + 1 / self.seconds
        return per_second / both * math.exp(-begins / self.seconds) * -math.expm1(-both * (ends - begins))

    def of_unknown(self, elapsed: float) -> float:
        """See Outlook."""
        return self.seconds / (elapsed + self.seconds)
