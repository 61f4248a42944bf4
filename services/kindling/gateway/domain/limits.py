"""What fits into a model's context."""

from kindling.gateway.domain.model_info import ModelInfo
from kindling.platform.errors import InvalidArgumentError

# What the wire can say; a model whose context is not known is held to nothing else here.
MAX_TOKENS = 2**32 - 1


def token_limit(model: ModelInfo, prompt_tokens: int, max_tokens: int | None) -> int:
    """Return how many tokens an answer may have: ``max_tokens``, or what the prompt leaves of the context.

    Raises:
        InvalidArgumentError: PROMPT_EMPTY, or CONTEXT_LENGTH_EXCEEDED if prompt and answer do not fit.
    """
    if not prompt_tokens:
        raise InvalidArgumentError(
            "The prompt has no tokens; give at least one.", reason="PROMPT_EMPTY", field="prompt"
        )
    context = model.context_length or MAX_TOKENS
    room = context - prompt_tokens
    if room < 1:
        raise _exceeded(f"your prompt has {prompt_tokens} tokens", context, "prompt")
    if max_tokens is not None and max_tokens > room:
        asked = f"you requested {prompt_tokens + max_tokens} tokens ({prompt_tokens} in your prompt"
        raise _exceeded(f"{asked}; {max_tokens} for the answer)", context, "max_tokens")
    return room if max_tokens is None else max_tokens


def _exceeded(what: str, context: int, field: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"This model's maximum context length is {context} tokens, however {what}. Shorten the prompt or the answer.",
        reason="CONTEXT_LENGTH_EXCEEDED",
        metadata={"context_length": str(context)},
        field=field,
    )
