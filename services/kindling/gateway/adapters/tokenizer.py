"""A checkpoint's tokenizer, as transformers reads it."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from kindling.gateway.adapters.token_bytes import TokenBytes
from kindling.gateway.domain.request import ChatMessage
from kindling.platform.errors import FailedPreconditionError, InvalidArgumentError

# Texts up to this long are encoded at once: that takes less time than handing them to a thread.
INLINE_CHARACTERS = 2048


class TransformersTokenizer:
    """Implements :class:`kindling.gateway.ports.Tokenizer`."""

    def __init__(self, tokenizer: Any, executor: Executor) -> None:
        self._tokenizer = tokenizer
        self._executor = executor
        self._backend = tokenizer.backend_tokenizer
        # A tokenizer.json may ask for truncation and padding, which is for training.
        self._backend.no_truncation()
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder()
        self._hidden_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self._bytes = TokenBytes(self._backend)

    @property
    def hidden_ids(self) -> frozenset[int]:
        """Tokens that never show in text."""
        return self._hidden_ids

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text; see the port."""
        return await self._encode(text, special=True)

    async def encode_chat(self, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Return the tokens of a conversation; see the port."""
        if not self._tokenizer.chat_template:
            raise InvalidArgumentError(
                "This model has no chat template; use /v1/completions, or deploy it with a chat_template.jinja.",
                reason="NO_CHAT_TEMPLATE",
                field="messages",
            )
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            raise InvalidArgumentError(
                f"The model's chat template refuses these messages: {error}",
                reason="CHAT_TEMPLATE_REFUSED",
                field="messages",
            ) from error
        # The template writes the tokens at the beginning by itself.
        return await self._encode(text, special=False)

    def decode(self, token_ids: list[int]) -> str:
        """Return the text of tokens; see the port."""
        text: str = self._backend.decode(token_ids, skip_special_tokens=False)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token; see the port."""
        return self._bytes.get(token_id)

    async def _encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        if len(text) <= INLINE_CHARACTERS:
            return self._encode_now(text, special)
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._encode_now, text, special)

    def _encode_now(self, text: str, special: bool) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=special).ids)


def import_library() -> None:
    """Import what :func:`read_tokenizer` needs; takes seconds, once per process."""
    from transformers import PreTrainedTokenizerFast  # noqa: F401


def read_tokenizer(directory: Path) -> Any:
    """Read the tokenizer in ``directory``; takes long, runs no code from there.

    Raises:
        FailedPreconditionError: TOKENIZER_UNREADABLE.
    """
    cls = _tokenizer_class(directory)
    try:
        tokenizer = cls.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise _unreadable(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not tokenizer.is_fast:
        raise _unreadable("it has no tokenizer.json")
    return tokenizer


def _tokenizer_class(directory: Path) -> Any:
    if (directory / "tokenizer.json").exists():
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast  # reads that file as it is, and without torch
    from transformers import AutoTokenizer  # takes another second, for those alone who need it

    return AutoTokenizer  # builds it from older files


def _unreadable(why: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"The model's tokenizer cannot be read: {why}. Deploy the model with a tokenizer.json.",
        reason="TOKENIZER_UNREADABLE",
    )
