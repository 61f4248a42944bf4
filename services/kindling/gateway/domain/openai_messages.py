"""The messages of OpenAI's chat requests."""

from kindling.gateway.domain.fields import Fields, invalid
from kindling.gateway.domain.request import ChatMessage
from kindling.platform.errors import InvalidArgumentError

MAX_MESSAGES = 4096
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_UNSUPPORTED_ROLES = ("tool", "function")
_KNOWN = ("role", "content", "name")
# Fields of assistant messages that clients send back as they came, null.
_EMPTY = ("annotations", "audio", "function_call", "reasoning_content", "refusal", "tool_call_id", "tool_calls")


def parse_messages(request: Fields) -> tuple[ChatMessage, ...]:
    """Check ``messages`` and return them with their contents as plain text.

    Raises:
        InvalidArgumentError: with ``field`` naming the message at fault.
    """
    messages = request.get("messages")
    if messages is None:
        raise request.missing("messages")
    if not isinstance(messages, list):
        raise invalid("messages must be a list.", "messages", "INVALID_TYPE")
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise invalid(f"messages must have 1 to {MAX_MESSAGES} messages, not {len(messages)}.", "messages")
    return tuple(_message(Fields(raw, f"messages[{index}]")) for index, raw in enumerate(messages))


def _message(fields: Fields) -> ChatMessage:
    fields.refuse_unknown((*_KNOWN, *_EMPTY))
    for name in _EMPTY:
        if fields.get(name):
            raise invalid(f"{fields.path(name)} is not supported; leave it out.", fields.path(name), "UNSUPPORTED")
    return ChatMessage(_role(fields), _content(fields))


def _role(fields: Fields) -> str:
    role = fields.string("role")
    if role in _UNSUPPORTED_ROLES:
        raise invalid(f"{fields.path('role')}: tools are not supported.", fields.path("role"), "UNSUPPORTED")
    if role not in _ROLES:
        raise invalid(f"{fields.path('role')} must be one of {', '.join(_ROLES)}.", fields.path("role"))
    return _ROLES[role]


def _content(fields: Fields) -> str:
    content = fields.get("content")
    if isinstance(content, str):
        return content
    if content is None:
        raise fields.missing("content")
    if not isinstance(content, list) or not content:
        raise invalid(f"{fields.path('content')} must be a string or a list of parts.", fields.path("content"))
    return "".join(_part(Fields(part, f"{fields.path('content')}[{index}]")) for index, part in enumerate(content))


def _part(part: Fields) -> str:
    kind = part.string("type")
    if kind != "text":
        raise _unsupported_part(part)
    part.refuse_unknown(("type", "text"))
    return part.string("text")


def _unsupported_part(part: Fields) -> InvalidArgumentError:
    return invalid(f"{part.path('type')}: only parts of type text are supported.", part.path("type"), "UNSUPPORTED")
