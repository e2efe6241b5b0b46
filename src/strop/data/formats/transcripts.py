"""Transcripts and tool calls in a single text or value, as in HH-RLHF and xLAM."""

import re
from typing import Any

from strop.data.formats.record import parsed
from strop.data.rows import Message

_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def transcript(text: Any) -> list[Message] | None:
    r"""Return the turns of a text such as `\n\nHuman: Hi\n\nAssistant: Hello`; else None."""
    parts = _SPEAKER.split(text) if isinstance(text, str) else []
    if len(parts) < 5 or parts[0] or parts[1] != "Human" or parts[-2] != "Assistant":
        return None
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": _ROLES[speaker], "content": text.strip()} for speaker, text in turns]


def alternating(values: list[Any]) -> list[Any]:
    """Return a list of texts as turns of user and assistant; other lists unchanged."""
    if len(values) < 2 or not all(isinstance(value, str) for value in values):
        return values
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(values)]


def calls_in(value: Any, tools: list[Any] | None) -> list[dict[str, Any]] | None:
    """Return the tool calls that an answer consists of, or None if it is none.

    Args:
        value: the answer: an object with `name` and `arguments`, a list of such, or their JSON.
        tools: that the row offers; all names must be among theirs.
    """
    if not tools:
        return None
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = parsed(value)
        except ValueError:
            return None
    calls = [value] if isinstance(value, dict) else value
    if not isinstance(calls, list) or not calls:
        return None
    offered = {str(tool.get("function", tool).get("name")) for tool in tools if _describes(tool)}
    for call in calls:
        if not isinstance(call, dict) or not {"name", "arguments"} <= set(call) <= _FIELDS:
            return None
        if call["name"] not in offered:
            return None
    return [{"type": "function", "function": call} for call in calls]


_FIELDS = {"name", "arguments", "id", "type"}


def _describes(tool: Any) -> bool:
    return isinstance(tool, dict) and isinstance(tool.get("function", tool), dict)
