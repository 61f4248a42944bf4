"""Requests that wait for room: one line per model, first come, first served."""

from collections.abc import Iterator

from kindling.scheduler.domain.values import Request


class WaitingLines:
    """The requests held, by model."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Request]] = {}

    def join(self, request: Request) -> int:
        """Go to the end of the model's line; returns how many are ahead."""
        line = self._lines.setdefault(request.model, {})
        ahead = len(line)
        line[request.generation_id] = request
        return ahead

    def leave(self, request: Request) -> None:
        """Leave the line, whether at its head or not; one who is not in it is ignored."""
        line = self._lines.get(request.model, {})
        if line.get(request.generation_id) is request:
            del line[request.generation_id]
        if not line:
            self._lines.pop(request.model, None)

    def head(self, model: str) -> Request | None:
        """Who has waited longest for a model."""
        return next(iter(self._lines.get(model, {}).values()), None)

    def line(self, model: str) -> list[Request]:
        """Everyone who waits for a model, longest first."""
        return list(self._lines.get(model, {}).values())

    def waiting(self, model: str) -> Iterator[Request]:
        """Everyone who waits for a model, longest first; to be dropped before anybody joins or leaves."""
        return iter(self._lines.get(model, {}).values())

    def length(self, model: str) -> int:
        """How many wait for a model."""
        return len(self._lines.get(model, {}))

    def models(self) -> list[str]:
        """The models that somebody waits for, the longest wait first."""
        return sorted(self._lines, key=lambda name: (next(iter(self._lines[name].values())).arrived_at, name))

    def __iter__(self) -> Iterator[Request]:
        for line in self._lines.values():
            yield from line.values()
