"""The generations of the simulated cluster: when each gets its tokens, and how long it stands still."""

from dataclasses import dataclass

from kindling.simulate.events import Action
from kindling.simulate.model_profiles import ModelProfile
from kindling.simulate.workload import Arrival


@dataclass(frozen=True, slots=True)
class Generation:
    """A request of the workload, by a name of its own."""

    generation_id: str
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a request; ``refused`` if it gave up.

    ``startup_seconds`` is how much later its first token came than in an instance that was ready and had room at once,
    with the time it stood still after that because it was preempted or moved; of one that gave up, how long it waited.
    """

    arrival: Arrival
    startup_seconds: float
    refused: bool = False


@dataclass(slots=True)
class Running:
    """A generation in an instance; times are none while the instance's weights are on their way."""

    generation: Generation
    instance_id: str
    done: Action
    began: float
    first_token_at: float | None = None
    ends_at: float | None = None

    def compute(self, model: ModelProfile, loaded_at: float) -> float:
        """Set the times of the tokens, with weights that were all there at ``loaded_at``; returns the seconds by which
        the first comes later for them.

        Layer by layer, chunks before they are needed: the last layer is computed once it is there and all others are.
        """
        arrival = self.generation.arrival
        prefill_seconds = arrival.prompt_tokens / model.prefill_tokens_per_second
        at_once = self.began + prefill_seconds
        late = max(0.0, loaded_at + prefill_seconds / model.layers - at_once)
        self.first_token_at = at_once + late
        self.ends_at = self.first_token_at + arrival.output_tokens * model.seconds_per_token
        return late

    def pause(self, seconds: float) -> None:
        """Stand still for so long; times must be known."""
        assert self.ends_at is not None
        self.ends_at += seconds

    def tokens(self, model: ModelProfile, now: float) -> int:
        """Tokens of the prompt and of the answer as far as it is."""
        arrival = self.generation.arrival
        if self.ends_at is None:
            return arrival.prompt_tokens
        left = max(0.0, self.ends_at - now) / model.seconds_per_token
        return arrival.prompt_tokens + max(0, arrival.output_tokens - round(left))
