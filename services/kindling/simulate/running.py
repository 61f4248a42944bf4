"""The generations of the simulated cluster: when each gets its tokens, and how long it stands still."""

from dataclasses import dataclass, field

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
    """A generation in an instance, with a token every ``token_seconds``.

    Times are none while the instance's weights are on their way.
    """

    generation: Generation
    instance_id: str
    done: Action
    began: float
    first_token_at: float | None = None
    ends_at: float | None = None
    token_seconds: float = 0.0

    def decodes_at(self, seconds: float) -> bool:
        """Whether a token of the answer is computed then."""
        if self.first_token_at is None or self.ends_at is None:
            return False
        return self.first_token_at <= seconds < self.ends_at

    def pause(self, seconds: float) -> None:
        """Stand still for so long; times must be known."""
        assert self.ends_at is not None
        self.ends_at += seconds

    def change_pace(self, token_seconds: float, now: float) -> None:
        """Have each of the tokens still to come take so long; times must be known."""
        assert self.first_token_at is not None, "its times are known"
        assert self.ends_at is not None, "its times are known"
        begins = max(now, self.first_token_at)
        self.ends_at = begins + max(0.0, self.ends_at - begins) * token_seconds / self.token_seconds
        self.token_seconds = token_seconds

    def tokens(self, now: float) -> int:
        """Tokens of the prompt and of the answer as far as it is."""
        arrival = self.generation.arrival
        if self.ends_at is None:
            return arrival.prompt_tokens
        left = max(0.0, self.ends_at - now) / self.token_seconds
        return arrival.prompt_tokens + max(0, arrival.output_tokens - round(left))


@dataclass(slots=True)
class Batch:
    """The generations of an instance whose weights are there.

    Where the model's profile says how, prompts are computed one after the other, in the order in which they came, and
    those who decode meanwhile are later for it. Decoding itself is bound by the weights' bytes, which a batch reads
    once: on a device of its own it is as fast for several.
    """

    running: list[Running] = field(default_factory=list)
    prompts_done_at: float = 0.0

    def join(
        self, one: Running, model: ModelProfile, loaded_at: float, token_seconds: float
    ) -> tuple[float, list[Running]]:
        """Set the times of a generation's tokens, with weights that were all there at ``loaded_at``.

        Returns the seconds by which the first comes later for them and for the others, and whose end is later for it.

        Layer by layer, chunks before they are needed: the last layer is computed once it is there and all others are.
        """
        arrival = one.generation.arrival
        alone_seconds = model.prefill_seconds(arrival.prompt_tokens)
        began, others = self._turn(one) if model.prompt_tokens_beside else (one.began, [])
        seconds = model.prefill_seconds_beside(arrival.prompt_tokens, token_seconds) if others else alone_seconds
        one.first_token_at = self.prompts_done_at = max(began + seconds, loaded_at + alone_seconds / model.layers)
        one.token_seconds = token_seconds
        one.ends_at = one.first_token_at + arrival.output_tokens * token_seconds
        for other in others:
            other.pause(alone_seconds)
        self.running.append(one)
        return max(0.0, one.first_token_at - one.began - alone_seconds), others

    def _turn(self, one: Running) -> tuple[float, list[Running]]:
        """When a prompt's turn comes, and who decodes then."""
        began = max(one.began, self.prompts_done_at)
        return began, [other for other in self.running if other.decodes_at(began)]
