"""Text of a message."""

import json

from strop.data.rows import Message


def content_text(message: Message) -> str:
    """Return the content of a message; of one that only calls tools, its calls as JSON."""
    return _text(message) or _calls(message)


def full_text(message: Message) -> str:
    """Return the reasoning, the text and the tool calls of a message, a line each."""
    parts = (message.get("reasoning_content"), _text(message), _calls(message))
    return "\n".join(part for part in parts if part)


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""


def _calls(message: Message) -> str:
    calls = message.get("tool_calls")
    return json.dumps(calls, ensure_ascii=False) if calls else ""
