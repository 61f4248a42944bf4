"""Keys on the wire: UTF-8, with foreign bytes carried through unharmed; prefixes as etcd's half-open ranges."""

from dataclasses import dataclass

FROM_KEY_ON = b"\0"


def encode_key(key: str) -> bytes:
    """Return the bytes of ``key``."""
    return key.encode("utf-8", "surrogateescape")


def decode_key(key: bytes) -> str:
    """Return ``key`` as text; ``encode_key`` gives back the same bytes, whatever they are."""
    return key.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys from ``start`` to ``end``, exclusive; an empty ``end`` means the one key ``start``."""

    start: bytes
    end: bytes

    @classmethod
    def one(cls, key: str) -> "KeyRange":
        """Return the range of ``key`` alone."""
        return cls(encode_key(key), b"")

    @classmethod
    def prefix(cls, prefix: str) -> "KeyRange":
        """Return the range of every key that begins with ``prefix``; of every key there is, if it is empty."""
        start = encode_key(prefix)
        return cls(start or b"\0", _after(start))


def _after(prefix: bytes) -> bytes:
    """Return the first key beyond all those that begin with ``prefix``."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else FROM_KEY_ON
