"""The text of one choice: tokens in, text up to the first stop sequence out."""

from collections.abc import Callable, Sequence

from kindling.gateway.domain.detokenizer import Detokenizer
from kindling.gateway.domain.stop_matcher import StopMatcher


class ChoiceText:
    """Joins detokenising and stop matching. ``stopped`` says that a stop sequence was found."""

    __slots__ = ("_detokenizer", "_matcher")

    def __init__(self, decode: Callable[[list[int]], str], hidden_ids: frozenset[int], stops: Sequence[str]) -> None:
        self._detokenizer = Detokenizer(decode, hidden_ids)
        self._matcher = StopMatcher(stops) if stops else None

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence was found; what comes after it is no part of the text."""
        return self._matcher is not None and self._matcher.stopped

    def feed(self, token_ids: Sequence[int]) -> tuple[str, int]:
        """Take tokens; return the text that is certain now, and how many tokens it took to the stop sequence."""
        if self._matcher is None:
            return self._detokenizer.append(token_ids), len(token_ids)
        pieces: list[str] = []
        for used, token_id in enumerate(token_ids, start=1):
            pieces.append(self._matcher.feed(self._detokenizer.append((token_id,))))
            if self._matcher.stopped:
                return "".join(pieces), used
        return "".join(pieces), len(token_ids)

    def flush(self) -> str:
        """Return what was withheld; there are no more tokens. A stop sequence may come to light only now."""
        rest = self._detokenizer.flush()
        if self._matcher is None:
            return rest
        return self._matcher.feed(rest) + self._matcher.flush()
