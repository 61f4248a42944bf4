"""What the simulator asks of a way of giving requests an instance."""

from typing import Protocol

from kindling.simulate.running import Generation


class Strategy(Protocol):
    """Hears of each request when it comes, and acts on the cluster."""

    def arrive(self, generation: Generation) -> None:
        """A request has come; it is to be begun or refused at some time."""
        ...
