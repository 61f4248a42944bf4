"""Requests that wait for room: one line per model, first come, first served."""

from collections.abc import Iterable, Iterator

from kindling.scheduler.domain.values import Request


class WaitingLines:
    """The requests held, by model."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, Request]] = {}
        self._choosy: dict[str, Request] = {}  # those with somebody to avoid, by generation

    def join(self, request: Request) -> int:
        """Go to the end of the model's line; returns how many are ahead."""
        line = self._lines.setdefault(request.model, {})
        ahead = len(line)
        if (earlier := line.get(request.generation_id)) is not None:
            self._choosy.pop(earlier.generation_id, None)
        line[request.generation_id] = request
        if request.avoid:
            self._choosy[request.generation_id] = request
        return ahead

    def leave(self, request: Request) -> None:
        """Leave the line, whether at its head or not; one who is not in it is ignored."""
        line = self._lines.get(request.model, {})
        if line.get(request.generation_id) is request:
            del line[request.generation_id]
            self._choosy.pop(request.generation_id, None)
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

    def names(self) -> Iterable[str]:
        """The models that somebody waits for, in no order."""
        return self._lines.keys()

    def models(self) -> list[str]:
        """The models that somebody waits for, the longest wait first."""
        return sorted(self._lines, key=lambda name: (next(iter(self._lines[name].values())).arrived_at, name))

    def choosy(self) -> Iterable[Request]:
        """Those who wait for an instance that is not one of some."""
        return self._choosy.values()

    def __iter__(self) -> Iterator[Request]:
        for line in self._lines.values():
            yield from line.values()
