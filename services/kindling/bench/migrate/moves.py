"""Migrations, from the wire's messages."""

from collections.abc import Iterator, Sequence

from kindling.bench.migrate.results import Migrated
from kindling.bench.model import Shape
from kindling.platform.errors import FailedPreconditionError
from kindling.v1 import inference_pb2


def migrated_of(
    outcomes: Sequence[inference_pb2.MigrateInstanceResponse], shape: Shape, prompt_tokens: int
) -> Iterator[Migrated]:
    """Yield the migrations of generations whose prompts have ``prompt_tokens``.

    Raises:
        FailedPreconditionError: GENERATION_STAYED.
    """
    for outcome in outcomes:
        if outcome.HasField("stayed"):
            raise FailedPreconditionError(
                f"a generation could not be moved: {outcome.stayed.reason}: {outcome.stayed.message}",
                reason="GENERATION_STAYED",
            )
        moved = outcome.moved
        yield Migrated(
            prompt_tokens=prompt_tokens,
            position=moved.position,
            round_tokens=tuple(moved.round_tokens),
            sent_bytes=moved.sent_bytes,
            kv_bytes=shape.kv_bytes_per_token * (prompt_tokens + moved.position),
            seconds=moved.seconds,
            handover_seconds=moved.handover_seconds,
        )
