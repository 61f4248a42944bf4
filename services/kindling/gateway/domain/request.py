"""What a client asks for, checked: a value that exists can be run."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation; ``role`` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A text to continue."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Tokens to continue."""

    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation to answer, through the model's chat template."""

    messages: tuple[ChatMessage, ...]


Prompt = TextPrompt | TokenPrompt | ChatPrompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen.

    ``top_p`` 1 and ``top_k`` 0 keep every token. Without ``seed`` the gateway draws one. Without ``max_tokens`` the
    rest of the context may be used. ``top_logprobs`` None reports no log-probabilities, 0 the chosen tokens' only.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Prompts to answer, each ``n`` times; choice ``i`` answers prompt ``i // n``. With ``trace``, moves are told.

    ``tenant`` is whose request it is, empty for the default tenant.
    """

    model: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    n: int = 1
    echo: bool = False
    trace: bool = False
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How the answer is shaped; it changes nothing about the tokens. ``n`` is the request's."""

    stream: bool = False
    include_usage: bool = False
    return_token_ids: bool = False
    n: int = 1
