"""What an engine has in hand."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of an engine's load.

    ``running`` generations hold KV cache, ``waiting`` ones do not yet. ``kv_bytes_used`` is what running ones have
    reserved of ``kv_bytes_total``.
    """

    running: int = 0
    waiting: int = 0
    kv_bytes_used: int = 0
    kv_bytes_total: int = 0
