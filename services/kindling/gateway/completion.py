"""From a request to its answer: prompts to tokens, one generation per choice, tokens to text."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from kindling.gateway.background import Background
from kindling.gateway.choice import Choice
from kindling.gateway.domain.events import Completed, Event, Prepared, StartKind
from kindling.gateway.domain.limits import token_limit
from kindling.gateway.domain.model_info import ModelInfo
from kindling.gateway.domain.request import ChatPrompt, CompletionRequest, Prompt, TextPrompt
from kindling.gateway.generation import Generations
from kindling.gateway.merge import merged
from kindling.gateway.ports import Models, Tokenizer, Tokenizers
from kindling.gateway.telemetry import RequestMeter


@dataclass(frozen=True, slots=True)
class _Prompts:
    """The prompts of a request, for one tokenizer."""

    tokenizer: Tokenizer
    token_ids: tuple[tuple[int, ...], ...]
    limits: tuple[int, ...]


class Completions:
    """Answers requests."""

    def __init__(
        self, models: Models, tokenizers: Tokenizers, generations: Generations, background: Background
    ) -> None:
        self._models = models
        self._tokenizers = tokenizers
        self._generations = generations
        self._background = background

    async def answer(self, request: CompletionRequest) -> AsyncGenerator[Event, None]:
        """Yield ``Prepared``, then what each choice waits for and says, and at last ``Completed``.

        Leaving early cancels every generation and gives its place back.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
            InvalidArgumentError: CONTEXT_LENGTH_EXCEEDED, PROMPT_EMPTY, or the chat template refuses the messages.
            KindlingError: as the scheduler or the worker failed.
        """
        operation = "chat" if isinstance(request.prompts[0], ChatPrompt) else "text_completion"
        with RequestMeter(operation, request) as meter:
            model = await self._models.get(request.model)
            prompts = await self._prepare(request, model)
            meter.prompt_tokens = sum(map(len, prompts.token_ids))
            yield Prepared(prompts.token_ids)
            choices = self._choices(request, prompts, meter)
            async with aclosing(merged([choice.run() for choice in choices], self._background)) as events:
                async for event in events:
                    yield event
        start = max((choice.start for choice in choices), key=lambda kind: kind.value, default=StartKind.UNKNOWN)
        yield Completed(meter.prompt_tokens, meter.completion_tokens, meter.first_token_seconds, start)

    async def _prepare(self, request: CompletionRequest, model: ModelInfo) -> _Prompts:
        tokenizer = await self._tokenizers.get(model)
        token_ids = tuple([await _tokens(prompt, tokenizer) for prompt in request.prompts])
        limits = tuple(token_limit(model, len(ids), request.sampling.max_tokens) for ids in token_ids)
        return _Prompts(tokenizer, token_ids, limits)

    def _choices(self, request: CompletionRequest, prompts: _Prompts, meter: RequestMeter) -> list[Choice]:
        seed = request.sampling.seed if request.sampling.seed is not None else secrets.randbits(63)
        return [
            Choice(
                index=index,
                request=request,
                prompt_token_ids=prompts.token_ids[index // request.n],
                max_tokens=prompts.limits[index // request.n],
                seed=(seed + index) % 2**64,
                tokenizer=prompts.tokenizer,
                generations=self._generations,
                meter=meter,
            )
            for index in range(len(prompts.token_ids) * request.n)
        ]


async def _tokens(prompt: Prompt, tokenizer: Tokenizer) -> tuple[int, ...]:
    if isinstance(prompt, TextPrompt):
        return await tokenizer.encode(prompt.text)
    if isinstance(prompt, ChatPrompt):
        return await tokenizer.encode_chat(prompt.messages)
    return prompt.token_ids
