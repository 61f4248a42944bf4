"""What the gateway needs of the world: a scheduler, models, workers, tokenizers."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kindling.gateway.domain.events import Alive, Finished, Granted, Migrated, Place, Queued, Starting, TokenBatch
from kindling.gateway.domain.model_info import ModelInfo
from kindling.gateway.domain.request import ChatMessage, Sampling


@dataclass(slots=True)
class Generation:
    """One generation: what was asked, and every token it has emitted so far, so that it can go on elsewhere.

    ``sampling`` has a seed and a limit. ``tenant`` is whose it is, empty for the default tenant.
    """

    generation_id: str
    model: str
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    emitted: list[int]
    tenant: str = ""


class Scheduler(Protocol):
    """Finds places for generations."""

    def acquire(self, generation: Generation, avoid: frozenset[str]) -> AsyncGenerator[Queued | Starting | Granted]:
        """Ask for a place, not in the instances in ``avoid`` if there is another; ends with exactly one ``Granted``.

        A generation has one place at a time: one that it has in ``avoid`` is given back, any other is granted again.
        Giving up the iterator gives up the request.
        """
        ...

    async def release(self, generation_id: str, instance_id: str) -> None:
        """Give the generation's grant back, wherever it is; a grant that is unknown is gone already."""
        ...


class Models(Protocol):
    """Knows the models that can be called."""

    async def get(self, name: str) -> ModelInfo:
        """Return the model.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        ...

    async def list_all(self) -> Sequence[ModelInfo]:
        """Return every model, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Leader:
    """The scheduler that leads, and its ``host:port``."""

    scheduler_id: str
    address: str


class Cluster(Protocol):
    """Knows who leads."""

    async def leader(self) -> Leader:
        """Return the leader, within a few seconds.

        Raises:
            UnavailableError: no scheduler answers.
        """
        ...


class Workers(Protocol):
    """Runs generations on workers."""

    def generate(
        self, place: Place, generation: Generation
    ) -> AsyncGenerator[TokenBatch | Alive | Migrated | Finished]:
        """Run the generation from where it stands, or go on reading one that was handed over to this place.

        Ends with exactly one ``Finished`` or ``Migrated``. Giving up cancels the generation there.
        """
        ...


class Tokenizer(Protocol):
    """Text to tokens and back, for one checkpoint."""

    @property
    def hidden_ids(self) -> frozenset[int]:
        """Tokens that never show in text, like the end of text."""
        ...

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text to continue, with those that the model wants at its beginning."""
        ...

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Return the tokens of a conversation, up to where the answer begins.

        Raises:
            InvalidArgumentError: the model has no chat template, or its template refuses the conversation.
        """
        ...

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of tokens; bytes that are no text become U+FFFD."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for by itself; empty for an unknown one."""
        ...


class Tokenizers(Protocol):
    """Finds tokenizers of checkpoints."""

    async def get(self, model: ModelInfo) -> Tokenizer:
        """Return the tokenizer of the model's checkpoint, loading it if need be.

        Raises:
            FailedPreconditionError: the checkpoint has no tokenizer that can be read.
        """
        ...
