"""How long running generations take to move to another worker."""

from dataclasses import dataclass

from kindling.scheduler.domain.linear_fit import LinearFit
from kindling.scheduler.domain.rates import LearnedRate

# Before the first: a modest device computes a thousand tokens in a second, and a prompt with its answer has as many.
_SECONDS_PER_TOKEN = 0.001
_BASE_SECONDS = 0.05
_GENERATION_TOKENS = 1024.0


@dataclass(frozen=True, slots=True)
class LearnedHandover:
    """What so many ``migrations`` have taught about a checkpoint on a kind of device."""

    digest: str
    device_kind: str
    seconds_per_token: float
    base_seconds: float
    generation_tokens: float
    migrations: int


class Handovers:
    """``a * tokens + b`` by checkpoint and kind of the target's device.

    The tokens are those of all generations that move, prompts and answers: they set out together, and the target
    computes one after the other.
    """

    def __init__(self) -> None:
        self._fits: dict[tuple[str, str], LinearFit] = {}
        self._tokens: dict[str, LearnedRate] = {}  # of a generation, by digest

    def learn(self, digest: str, device_kind: str, generations: int, tokens: int, seconds: float) -> None:
        """Take in how long so many generations took to move, and how many tokens they had together."""
        key = digest, device_kind
        self._fits.setdefault(key, LinearFit(_SECONDS_PER_TOKEN, _BASE_SECONDS)).learn(tokens, seconds)
        self._tokens.setdefault(digest, LearnedRate()).add(tokens / generations)

    def seconds(self, digest: str, device_kind: str, tokens: float) -> float:
        """Seconds from the source's first word to the last generation's going on at the target."""
        fit = self._fits.get((digest, device_kind))
        return fit.seconds(tokens) if fit else _SECONDS_PER_TOKEN * tokens + _BASE_SECONDS

    def generation_tokens(self, digest: str) -> float:
        """Tokens that a generation of a checkpoint has when it moves, as far as those that did tell."""
        rate = self._tokens.get(digest)
        return (rate.value() if rate else None) or _GENERATION_TOKENS

    def learned(self) -> list[LearnedHandover]:
        """What has moved, by digest and kind of device."""
        return [
            LearnedHandover(digest, kind, *fit.coefficients, self.generation_tokens(digest), fit.count)
            for (digest, kind), fit in sorted(self._fits.items())
        ]
