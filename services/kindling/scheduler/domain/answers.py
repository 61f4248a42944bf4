"""What mutations were answered, by request id, so that sending one twice does it once and gets the same answer."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from kindling.platform.errors import InvalidArgumentError
from kindling.scheduler.domain.values import Model

_MOST = 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A mutation that was done: the model as it was ``deployed``, or none if it was deleted.

    ``create_time`` is seconds since the epoch.
    """

    request_id: str
    model_name: str
    deployed: Model | None = None
    create_time: float = 0.0


class Answers:
    """The latest answers; older ones are forgotten, and asking again then is asking anew."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def restore(self, answers: Iterable[Answer]) -> None:
        """Take over what earlier leaders answered."""
        for answer in sorted(answers, key=lambda one: (one.create_time, one.request_id)):
            self.add(answer)

    def find(self, request_id: str, model_name: str) -> Answer | None:
        """The answer that a request has had, if it is remembered.

        Raises InvalidArgumentError REQUEST_ID_REUSED if that was about another model.
        """
        answer = self._answers.get(request_id)
        if answer is not None and answer.model_name != model_name:
            raise InvalidArgumentError(
                f"request_id {request_id[:128]!r} was used for model {answer.model_name!r} already; give each mutation "
                "an id of its own",
                reason="REQUEST_ID_REUSED",
                field="request_id",
            )
        return answer

    def surplus(self) -> list[str]:
        """The request ids to be forgotten when one more answer is added."""
        excess = len(self._answers) + 1 - self._most
        return list(self._answers)[: max(0, excess)]

    def add(self, answer: Answer) -> None:
        """Remember an answer, and forget the oldest if there are too many."""
        for request_id in self.surplus():
            del self._answers[request_id]
        self._answers[answer.request_id] = answer
