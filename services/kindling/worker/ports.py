"""What the worker needs of the world: an engine that computes tokens, and the weights it computes with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from kindling.worker.domain.generation import CaughtUp, Finished, GenerationRequest, Token
from kindling.worker.domain.stats import EngineStats
from kindling.worker.domain.tensor_spec import TensorSpec

if TYPE_CHECKING:
    import torch

StepEvent = Token | Finished | CaughtUp


class Engine(Protocol):
    """Runs the generations of one model, one step at a time.

    Synchronous and not thread-safe: one thread calls it (see ``EngineLoop``). Nothing is computed outside ``step``.

    A generation may be held: everything of it is computed but its last token, and none is chosen, so that it takes one
    decode step to go on once it is released. It keeps its KV cache meanwhile, unless one that is not held needs it.
    """

    @property
    def has_work(self) -> bool:
        """Whether ``step`` would do anything: a generation runs or waits that is not held with all of it computed."""
        ...

    @property
    def context_length(self) -> int:
        """Most tokens that a prompt and its completion may have together."""
        ...

    @property
    def stats(self) -> EngineStats:
        """The engine's load now."""
        ...

    def add(self, request: GenerationRequest, *, held: bool = False) -> None:
        """Take a generation in, held if asked; it runs as soon as its KV cache fits.

        Raises:
            InvalidArgumentError: PROMPT_EMPTY, TOKEN_ID_INVALID or CONTEXT_LENGTH_EXCEEDED.
            AlreadyExistsError: GENERATION_EXISTS, if one with this id has not ended yet.
            ResourceExhaustedError: KV_CACHE_TOO_SMALL, if it could never fit.
        """
        ...

    def cancel(self, generation_id: str) -> Finished | None:
        """End a generation, free its memory now and return its terminal event; None if it has ended already."""
        ...

    def hold(self, generation_id: str) -> tuple[int, ...] | None:
        """Choose no token for a generation from now on; return all tokens that it has emitted, those emitted elsewhere
        included, or None if it has ended.
        """
        ...

    def extend(self, generation_id: str, token_ids: Sequence[int]) -> None:
        """Add tokens chosen elsewhere to a held generation; if they end it, the next step says ``Finished``.

        Raises:
            NotFoundError: GENERATION_UNKNOWN, if it has ended.
            FailedPreconditionError: GENERATION_NOT_HELD.
            InvalidArgumentError: TOKEN_ID_INVALID.
        """
        ...

    def release(self, generation_id: str) -> None:
        """Let a held generation go on; nothing changes if it is not held or has ended."""
        ...

    def emitted(self, generation_id: str) -> tuple[int, ...] | None:
        """Return all tokens that a generation has emitted, those emitted elsewhere included; None if it has ended."""
        ...

    def step(self) -> list[StepEvent]:
        """Advance running generations by one step and return what happened.

        Events of one generation are in order, without gaps, and end with exactly one ``Finished``. A held one says
        ``CaughtUp`` whenever everything of it is computed but its last token, and maybe again after it had to give its
        KV cache up. A step may return no event (a prompt is long). If it raises, the engine can only be closed.
        """
        ...

    def check_integrity(self) -> None:
        """Verify the engine's own bookkeeping.

        Raises:
            InternalError: ENGINE_CORRUPT, saying which invariant is broken.
        """
        ...

    def close(self) -> None:
        """Drop every generation and free memory; may be called twice."""
        ...


class WeightSource(Protocol):
    """The bytes of one checkpoint, arriving or all there.

    ``tensors`` is known from the start; tensors are views of read-only memory that the source owns, valid until the
    source is closed, and hold garbage until they have been waited for. Tensors of one partition share one storage, so
    that neighbours can be seen as one tensor without a copy.
    """

    @property
    def tensors(self) -> Mapping[str, TensorSpec]:
        """Every tensor, by its name in the checkpoint, in the order in which they arrive."""
        ...

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived, so that ``wait`` returns at once."""
        ...

    def tensor(self, name: str) -> "torch.Tensor":
        """Return a view of the named tensor without waiting for its bytes."""
        ...

    def wait(self, names: Iterable[str]) -> None:
        """Block until the bytes of the named tensors have arrived. Called on the engine's thread.

        Raises:
            KindlingError: the load failed or was given up; the engine fails with the same error.
        """
        ...
