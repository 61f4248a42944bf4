"""Starts that failed: where not to try again, when to give up, and what those who wait are told."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import chain

from kindling.platform.errors import Code, KindlingError

# The checkpoint itself is at fault: another worker would say the same.
_DETERMINISTIC = frozenset({Code.INVALID_ARGUMENT, Code.DATA_LOSS, Code.UNIMPLEMENTED, Code.NOT_FOUND})
# What is wanted cannot be done by these workers: trying again only helps once there are others.
_HOPELESS = frozenset({Code.UNIMPLEMENTED})
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_LEFT_OUT_SECONDS = 10.0  # long enough that the other workers have their turn


@dataclass(slots=True)
class Trouble:
    """The failed starts of a model since one succeeded; ``error`` is the first of the present attempt, or
    one that settles it."""

    error: KindlingError
    excluded: dict[str, float] = field(default_factory=dict)  # workers, and until when
    attempts: int = 0
    given_up: int = 0
    blocked_until: float = float("-inf")


class Troubles:
    """Troubles by model. An attempt tries up to ``max_attempts`` workers; then comes a pause, longer each time."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._of_model: dict[str, Trouble] = {}

    def of(self, model: str) -> Trouble | None:
        """The trouble that a model has."""
        return self._of_model.get(model)

    def excluded(self, model: str, now: float) -> frozenset[str]:
        """Workers on which the present attempt has failed a short while ago."""
        trouble = self._of_model.get(model)
        return frozenset(name for name, end in trouble.excluded.items() if end > now) if trouble else frozenset()

    def note(self, model: str, worker_id: str, error: KindlingError, now: float) -> bool:
        """Note a failed start; true if there is no point in trying another worker.

        The worker is left out for a while, not for good: it may be the only one that ever has room.
        """
        trouble = self._of_model.setdefault(model, Trouble(error))
        if not trouble.attempts or error.code in _DETERMINISTIC:
            trouble.error = error
        trouble.excluded[worker_id] = now + _LEFT_OUT_SECONDS
        trouble.attempts += 1
        return error.code in _DETERMINISTIC or trouble.attempts >= self._max_attempts

    def give_up(self, model: str, now: float) -> KindlingError:
        """End the attempt and begin a pause; returns the error that it began with, or what settled it.

        What these workers cannot do is not tried again until another one comes, or the model changes.
        """
        trouble = self._of_model[model]
        trouble.attempts = 0
        trouble.excluded.clear()
        if trouble.error.code in _HOPELESS:
            trouble.blocked_until = math.inf
            return trouble.error
        pause = min(_FIRST_PAUSE_SECONDS * 2**trouble.given_up, _LONGEST_PAUSE_SECONDS)
        trouble.given_up = min(trouble.given_up + 1, 10)
        trouble.blocked_until = now + pause
        trouble.error.retry_after_seconds = pause
        return trouble.error

    def blocking(self, model: str, now: float) -> Trouble | None:
        """The trouble of a model whose pause is not over."""
        trouble = self._of_model.get(model)
        return trouble if trouble and trouble.blocked_until > now else None

    def next_retry(self, now: float) -> float | None:
        """When a pause is over next, or a worker may be tried again."""
        troubles = self._of_model.values()
        ends = chain.from_iterable((one.blocked_until, *one.excluded.values()) for one in troubles)
        return min((end for end in ends if now < end < math.inf), default=None)

    def readmit(self, worker_id: str) -> None:
        """A worker came, or came back: what failed on it before says nothing any more, and it may do what others
        cannot."""
        for trouble in self._of_model.values():
            trouble.excluded.pop(worker_id, None)
            if trouble.blocked_until == math.inf:
                trouble.blocked_until = -math.inf

    def keep(self, models: Collection[str]) -> None:
        """Forget the troubles of all others."""
        for name in self._of_model.keys() - set(models):
            del self._of_model[name]

    def clear(self, model: str) -> None:
        """A start succeeded, or the model changed."""
        self._of_model.pop(model, None)
