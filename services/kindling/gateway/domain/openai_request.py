"""OpenAI's request bodies, checked and turned into what the gateway runs.

Nothing is ignored that would have changed the answer: a field that is not supported, or not known, is refused.
"""

from typing import Any

from kindling.gateway.domain.fields import Fields, invalid
from kindling.gateway.domain.openai_messages import parse_messages
from kindling.gateway.domain.request import (
    AnswerOptions,
    ChatPrompt,
    CompletionRequest,
    Prompt,
    Sampling,
    TextPrompt,
    TokenPrompt,
)

MAX_CHOICES = 128
MAX_STOPS = 4
MAX_STOP_CHARACTERS = 4096
MAX_TOP_LOGPROBS = 20
MAX_STOP_TOKENS = 64
MAX_UINT32 = 2**32 - 1
DEFAULT_COMPLETION_TOKENS = 16

# Fields with an effect that Kindling does not have, with the values that ask for no effect.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "min_p": (0,),
    "modalities": (["text"],),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}
# Fields that say something about the caller and nothing about the answer.
_INERT = ("metadata", "parallel_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier", "user")
_COMMON = (
    "model",
    "ignore_eos",
    "logprobs",
    "max_tokens",
    "n",
    "return_token_ids",
    "seed",
    "stop",
    "stop_token_ids",
    "stream",
    "stream_options",
    "temperature",
    "top_k",
    "top_p",
    *_INERT,
    *_NEUTRAL,
)
_CHAT = (*_COMMON, "max_completion_tokens", "messages", "top_logprobs")
_COMPLETION = (*_COMMON, "best_of", "echo", "prompt")


def parse_chat(body: object) -> tuple[CompletionRequest, AnswerOptions]:
    """Check a body of /v1/chat/completions.

    Raises:
        InvalidArgumentError: with ``field`` naming what is wrong.
    """
    fields = Fields(body)
    model = fields.string("model")
    _refuse_unsupported(fields, _CHAT)
    request = CompletionRequest(
        model=model,
        prompts=(ChatPrompt(parse_messages(fields)),),
        sampling=_sampling(fields, _chat_max_tokens(fields), _chat_logprobs(fields)),
        stop=_stop(fields),
        n=fields.integer("n", 1, MAX_CHOICES) or 1,
    )
    return request, _options(fields, request.n)


def parse_completion(body: object) -> tuple[CompletionRequest, AnswerOptions]:
    """Check a body of /v1/completions.

    Raises:
        InvalidArgumentError: with ``field`` naming what is wrong.
    """
    fields = Fields(body)
    model = fields.string("model")
    _refuse_unsupported(fields, _COMPLETION)
    max_tokens = _max_tokens(fields, "max_tokens")
    request = CompletionRequest(
        model=model,
        prompts=_prompts(fields),
        sampling=_sampling(
            fields,
            DEFAULT_COMPLETION_TOKENS if max_tokens is None else max_tokens,
            fields.integer("logprobs", 0, MAX_TOP_LOGPROBS),
        ),
        stop=_stop(fields),
        n=fields.integer("n", 1, MAX_CHOICES) or 1,
        echo=fields.boolean("echo"),
    )
    _check_completion(fields, request)
    return request, _options(fields, request.n)


def _check_completion(fields: Fields, request: CompletionRequest) -> None:
    if len(request.prompts) * request.n > MAX_CHOICES:
        raise invalid(f"A request may have at most {MAX_CHOICES} choices: prompts times n.", "n")
    best_of = fields.integer("best_of", 1, MAX_CHOICES)
    if best_of is not None and best_of != request.n:
        raise invalid("best_of other than n is not supported; leave it out.", "best_of", "UNSUPPORTED")
    if request.echo and request.sampling.top_logprobs is not None:
        raise invalid("echo together with logprobs is not supported; leave one of them out.", "echo", "UNSUPPORTED")


def _refuse_unsupported(fields: Fields, known: tuple[str, ...]) -> None:
    fields.refuse_unknown(known)
    for name, neutral in _NEUTRAL.items():
        value = fields.get(name)
        if value is not None and value not in neutral:
            raise invalid(f"{name} is not supported by this server; leave it out.", name, "UNSUPPORTED")


def _sampling(fields: Fields, max_tokens: int | None, top_logprobs: int | None) -> Sampling:
    seed = fields.integer("seed", -(2**63), 2**64 - 1)
    return Sampling(
        temperature=fields.number("temperature", 0, 2, 1.0),
        top_p=_top_p(fields),
        top_k=max(0, fields.integer("top_k", -1, MAX_UINT32) or 0),
        seed=None if seed is None else seed % 2**64,
        max_tokens=max_tokens,
        stop_token_ids=_stop_token_ids(fields),
        ignore_eos=fields.boolean("ignore_eos"),
        top_logprobs=top_logprobs,
    )


def _top_p(fields: Fields) -> float:
    top_p = fields.number("top_p", 0, 1, 1.0)
    if top_p == 0:
        raise invalid("top_p must be above 0; ask for temperature 0 to get the likeliest token.", "top_p")
    return top_p


def _max_tokens(fields: Fields, name: str) -> int | None:
    # The upper bound is the model's context, which only the model knows; this one is the wire's.
    return fields.integer(name, 1, MAX_UINT32)


def _chat_max_tokens(fields: Fields) -> int | None:
    newer = _max_tokens(fields, "max_completion_tokens")
    older = _max_tokens(fields, "max_tokens")
    if newer is not None and older is not None and newer != older:
        raise invalid("Give max_completion_tokens or max_tokens, not both.", "max_tokens")
    return newer if newer is not None else older


def _chat_logprobs(fields: Fields) -> int | None:
    top = fields.integer("top_logprobs", 0, MAX_TOP_LOGPROBS)
    if fields.boolean("logprobs"):
        return top or 0
    if top:
        raise invalid("top_logprobs needs logprobs to be true.", "top_logprobs")
    return None


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.get("stop")
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list):
        raise invalid("stop must be a string or a list of strings.", "stop", "INVALID_TYPE")
    if len(stops) > MAX_STOPS:
        raise invalid(f"stop may have at most {MAX_STOPS} strings, not {len(stops)}.", "stop")
    for stop in stops:
        _check_stop(stop)
    return tuple(stops)


def _check_stop(stop: object) -> None:
    if not isinstance(stop, str):
        raise invalid("stop must be a string or a list of strings.", "stop", "INVALID_TYPE")
    if not 1 <= len(stop) <= MAX_STOP_CHARACTERS:
        raise invalid(f"A stop string must have 1 to {MAX_STOP_CHARACTERS} characters.", "stop")


def _stop_token_ids(fields: Fields) -> tuple[int, ...]:
    value = fields.get("stop_token_ids")
    if value is None:
        return ()
    if not _is_token_list(value) or len(value) > MAX_STOP_TOKENS:
        raise invalid(f"stop_token_ids must be a list of at most {MAX_STOP_TOKENS} token ids.", "stop_token_ids")
    return tuple(value)


def _options(fields: Fields, n: int) -> AnswerOptions:
    return AnswerOptions(
        stream=fields.boolean("stream"),
        include_usage=_include_usage(fields),
        return_token_ids=fields.boolean("return_token_ids"),
        n=n,
    )


def _include_usage(fields: Fields) -> bool:
    raw = fields.get("stream_options")
    if raw is None:
        return False
    if not fields.boolean("stream"):
        raise invalid("stream_options needs stream to be true.", "stream_options")
    options = Fields(raw, "stream_options")
    options.refuse_unknown(("include_usage", "include_obfuscation"))
    return options.boolean("include_usage")


def _prompts(fields: Fields) -> tuple[Prompt, ...]:
    value = fields.get("prompt")
    if value is None:
        raise fields.missing("prompt")
    if isinstance(value, str) or _is_token_list(value):
        return (_prompt(value),)
    if not isinstance(value, list) or not value:
        raise _wrong_prompt()
    if len(value) > MAX_CHOICES:
        raise invalid(f"prompt may be a list of at most {MAX_CHOICES} prompts.", "prompt")
    return tuple(_prompt(item) for item in value)


def _prompt(value: object) -> Prompt:
    if isinstance(value, str):
        return TextPrompt(value)
    if not isinstance(value, list) or not _is_token_list(value):
        raise _wrong_prompt()
    return TokenPrompt(tuple(value))


def _wrong_prompt() -> Exception:
    return invalid(
        "prompt must be a string, a list of strings, a list of token ids or a list of such lists, none of them empty.",
        "prompt",
        "INVALID_TYPE",
    )


def _is_token_list(value: object) -> bool:
    return (
        isinstance(value, list) and bool(value) and all(type(item) is int and 0 <= item <= MAX_UINT32 for item in value)
    )
