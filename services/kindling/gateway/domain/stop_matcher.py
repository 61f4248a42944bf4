"""Stop sequences, found across the borders of tokens."""

from collections.abc import Sequence


class StopMatcher:
    """Passes text through up to the first stop sequence, which it swallows with all that follows.

    First is the one that ends first, and of those that end at the same place the longest: the result does not depend
    on how the text was cut into pieces. Text that may be the beginning of a stop sequence is withheld.
    """

    __slots__ = ("_held", "_stops", "stopped")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take the next piece and return what certainly stands before any stop sequence; sets ``stopped``."""
        if self.stopped:
            return ""
        text = self._held + text
        start = self._find(text)
        if start is not None:
            self.stopped, self._held = True, ""
            return text[:start]
        border = len(text) - self._open_suffix(text)
        self._held = text[border:]
        return text[:border]

    def flush(self) -> str:
        """Return what was withheld; there is no more text."""
        held, self._held = self._held, ""
        return held

    def _find(self, text: str) -> int | None:
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _open_suffix(self, text: str) -> int:
        """Length of the longest end of ``text`` that begins a stop sequence."""
        return max((_overlap(text, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of ``stop`` that ends ``text``."""
    at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while at >= 0:
        if stop.startswith(text[at:]):
            return len(text) - at
        at = text.find(stop[0], at + 1)
    return 0
