"""The ways of generating that are compared."""

import enum


class Way(enum.StrEnum):
    """Who generates, and how."""

    KINDLING = "kindling"
    KINDLING_EXACT = "kindling_exact"
    ONE_BY_ONE = "generate_one_by_one"
    STATIC_BATCH = "generate_static_batch"
    CONTINUOUS = "continuous_batching"

    @property
    def label(self) -> str:
        """As people read it."""
        return _LABELS[self]


_LABELS = {
    Way.KINDLING: "Kindling's engine",
    Way.KINDLING_EXACT: "Kindling's engine, exact",
    Way.ONE_BY_ONE: "transformers generate, one by one",
    Way.STATIC_BATCH: "transformers generate, one padded batch",
    Way.CONTINUOUS: "transformers continuous batching",
}
PEERS = (Way.ONE_BY_ONE, Way.STATIC_BATCH, Way.CONTINUOUS)
