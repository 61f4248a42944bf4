"""The bytes behind single tokens, whatever kind of tokenizer they belong to."""

import re
from typing import Any

import orjson

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_BORDER = "▁"


def _byte_level_alphabet() -> dict[str, int]:
    """Return GPT-2's mapping of printable characters to bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + rank): byte for rank, byte in enumerate(others)}


_ALPHABET = _byte_level_alphabet()


class TokenBytes:
    """Looks tokens up and remembers their bytes."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._added = {token_id: token.content for token_id, token in backend.get_added_tokens_decoder().items()}
        self._byte_level = _is_byte_level(backend)
        self._known: dict[int, bytes] = {}

    def get(self, token_id: int) -> bytes:
        """Return the bytes of a token; empty for an unknown one."""
        if token_id not in self._known:
            self._known[token_id] = self._look_up(token_id)
        return self._known[token_id]

    def _look_up(self, token_id: int) -> bytes:
        if token_id in self._added:
            content: str = self._added[token_id]
            return content.encode()
        piece: str | None = self._backend.id_to_token(token_id)
        if piece is None:
            return b""
        if self._byte_level:
            return b"".join(bytes((_ALPHABET[char],)) if char in _ALPHABET else char.encode() for char in piece)
        fallback = _BYTE_FALLBACK.fullmatch(piece)
        return bytes.fromhex(fallback[1]) if fallback else piece.replace(_WORD_BORDER, " ").encode()


def _is_byte_level(backend: Any) -> bool:
    decoder = orjson.loads(backend.to_str()).get("decoder") or {}
    return "ByteLevel" in {decoder.get("type"), *(step.get("type") for step in decoder.get("decoders", ()))}
