"""One choice of an answer: a generation, and the text it makes."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from kindling.gateway.domain.choice_text import ChoiceText
from kindling.gateway.domain.events import (
    ChoiceEnded,
    ChoiceMoved,
    ChosenLogprob,
    Delta,
    Finished,
    FinishReason,
    Granted,
    Moved,
    NamedLogprob,
    Queued,
    Starting,
    StartKind,
    Step,
    TokenBatch,
    TokenLogprobs,
    Waiting,
)
from kindling.gateway.domain.request import CompletionRequest, TextPrompt
from kindling.gateway.generation import Generations
from kindling.gateway.ports import Generation, Tokenizer
from kindling.gateway.telemetry import RequestMeter


class Choice:
    """Runs one generation and yields its text; ``start`` says, once it runs, how its instance came to serve it."""

    def __init__(
        self,
        *,
        index: int,
        request: CompletionRequest,
        prompt_token_ids: tuple[int, ...],
        max_tokens: int,
        seed: int,
        tokenizer: Tokenizer,
        generations: Generations,
        meter: RequestMeter,
    ) -> None:
        self.start = StartKind.UNKNOWN
        self._index = index
        self._request = request
        self._tokenizer = tokenizer
        self._generations = generations
        self._meter = meter
        self._generation = Generation(
            generation_id=uuid.uuid4().hex,
            model=request.model,
            prompt_token_ids=prompt_token_ids,
            sampling=replace(request.sampling, seed=seed, max_tokens=max_tokens),
            emitted=[],
            tenant=request.tenant,
        )
        self._reason = FinishReason.STOP
        self._text = ChoiceText(tokenizer.decode, tokenizer.hidden_ids, request.stop)
        # Tokens whose text is withheld go out with the next piece.
        self._token_ids: list[int] = []
        self._logprobs: list[ChosenLogprob] = []

    async def run(self) -> AsyncGenerator[Waiting | Delta | ChoiceMoved | ChoiceEnded, None]:
        """Yield what happens, and at last ``ChoiceEnded``; a stop sequence cancels the generation."""
        if self._request.echo:
            yield Delta(self._index, self._prompt_text())
        async with aclosing(self._generations.run(self._generation)) as steps:
            async for step in steps:
                event = self._event_of(step)
                if event is not None:
                    yield event
                if self._text.stopped:
                    break
        rest = self._text.flush()
        if rest or self._token_ids:
            yield self._delta(rest)
        reason = FinishReason.STOP if self._text.stopped else self._reason
        self._meter.finished(reason)
        yield ChoiceEnded(self._index, reason)

    def _event_of(self, step: Step) -> Waiting | Delta | ChoiceMoved | None:
        if isinstance(step, TokenBatch):
            text = self._take(step)
            return self._delta(text) if text or self._logprobs else None
        if isinstance(step, Finished):
            self._reason = step.reason
        elif isinstance(step, Granted):
            self.start = step.start
        elif isinstance(step, Moved):
            return ChoiceMoved(self._index, step) if self._request.trace else None
        elif isinstance(step, Queued | Starting):
            return step
        return None

    def _take(self, batch: TokenBatch) -> str:
        text, used = self._text.feed(batch.token_ids)
        self._meter.tokens(used)
        self._token_ids += batch.token_ids[:used]
        for token_id, logprobs in zip(batch.token_ids[:used], batch.logprobs, strict=False):
            self._logprobs.append(self._named(token_id, logprobs))
        return text

    def _delta(self, text: str) -> Delta:
        delta = Delta(self._index, text, tuple(self._token_ids), tuple(self._logprobs))
        self._token_ids, self._logprobs = [], []
        return delta

    def _named(self, token_id: int, logprobs: TokenLogprobs) -> ChosenLogprob:
        name = self._tokenizer.token_bytes
        top = tuple(NamedLogprob(other, name(other), logprob) for other, logprob in logprobs.top)
        return ChosenLogprob(NamedLogprob(token_id, name(token_id), logprobs.logprob), top)

    def _prompt_text(self) -> str:
        prompt = self._request.prompts[self._index // self._request.n]
        if isinstance(prompt, TextPrompt):
            return prompt.text
        return self._tokenizer.decode(list(self._generation.prompt_token_ids))
