"""Text from tokens as they come, right across the borders of UTF-8 characters."""

from collections.abc import Callable, Iterable

REPLACEMENT = "\ufffd"
# Valid text settles within four tokens (a character has at most four bytes); more means that the bytes are no text.
_UNSETTLED_TOKENS = 16
_CHARACTER_TOKENS = 4


class Detokenizer:
    """Turns a growing list of tokens into a growing text.

    The pieces returned, joined, are ``decode`` of all tokens; no piece ends inside a character. ``decode`` sees a
    sliding window only, so that a token costs the same however long the text is: the tokens of the last step stay in
    it as context (whether a word begins with a space depends on what stands before), those before are dropped.
    """

    __slots__ = ("_decode", "_emitted", "_hidden", "_settled", "_window")

    def __init__(self, decode: Callable[[list[int]], str], hidden_ids: frozenset[int] = frozenset()) -> None:
        self._decode = decode
        self._hidden = hidden_ids
        self._window: list[int] = []
        self._settled = 0  # tokens of the window whose text was returned
        self._emitted = 0  # characters of the window's text that were returned

    def append(self, token_ids: Iterable[int]) -> str:
        """Take more tokens and return the text that is certain now."""
        before = len(self._window)
        self._window += [token_id for token_id in token_ids if token_id not in self._hidden]
        size = len(self._window)
        # A batch may end inside a character; then its text is certain up to a token or three earlier.
        for end in range(size, max(before, size - _CHARACTER_TOKENS), -1):
            text = self._decode(self._window[:end])
            if not text.endswith(REPLACEMENT):
                return self._settle(text, end)
        return self._give_up_waiting() if size - self._settled >= _UNSETTLED_TOKENS else ""

    def flush(self) -> str:
        """Return what was withheld; there are no more tokens."""
        text = self._decode(self._window)[self._emitted :] if self._window else ""
        self._window, self._settled, self._emitted = [], 0, 0
        return text

    def _settle(self, text: str, end: int) -> str:
        """Return the text of the window up to token ``end``, as far as it is new, and move the window on."""
        piece = text[self._emitted :]
        recent = self._window[self._settled : end]
        context = self._decode(recent)
        # Tokens without text are no context: what follows them would lose its leading space.
        if context:
            self._window, self._emitted = recent + self._window[end:], len(context)
        else:
            self._emitted = len(text)
        self._settled = len(recent) if context else end
        return piece

    def _give_up_waiting(self) -> str:
        """Cut the window where both sides decode by themselves, and return the left one's text."""
        text, size = self._decode(self._window), len(self._window)
        for cut in range(size - 1, size - 1 - _CHARACTER_TOKENS, -1):
            left = self._decode(self._window[:cut])
            if left + self._decode(self._window[cut:]) == text:
                piece = left[self._emitted :]
                self._window, self._settled, self._emitted = self._window[cut:], 0, 0
                return piece
        return ""
