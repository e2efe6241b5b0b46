"""Messages of any layout in one form: `role` and `content`, which templates read."""

import json
from collections.abc import Sequence
from typing import Any

from strop.data.formats.cells import FaultyRecordError, is_empty, listed, optional_text
from strop.data.formats.record import Record, is_missing, type_in_words
from strop.data.formats.tool_calls import call_in, calls_of_text, listed_calls
from strop.data.rows import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
SPEAKERS = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "ipython": "tool",
    **{role: role for role in ROLES},
}
_CALLS = ("function_call", "tool_call")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_PARTS = ("text", "image", "image_url", "input_image", "audio", "input_audio", "video", "file")


def conversation(values: Sequence[Any], record: Record, *, answered: bool = True) -> list[Message]:
    """Return the messages in one form, with the record's system prompt first.

    Args:
        values: the messages, as in the data.
        record: the record, with a system prompt and earlier turns if it has any.
        answered: whether an answer is required.

    Raises:
        FaultyRecordError: a message cannot be used, or there is no answer.
    """
    messages = [m for i, value in enumerate(values, 1) for m in _messages(value, i)]
    system = optional_text(record, "system", "system_prompt")
    first = int(bool(messages) and messages[0]["role"] in ("system", "developer"))
    if system and not first:
        messages.insert(0, {"role": "system", "content": system})
        first = 1
    elif system and system.strip() != messages[0]["content"].strip():
        reason = (
            "message 1 is a system message, and a system column has another text; keep one of them, "
            "or leave the column out with --ignore-columns"
        )
        raise FaultyRecordError("bad_type", reason)
    messages[first:first] = _history(record)
    if answered and not any(m["role"] == "assistant" for m in messages):
        raise FaultyRecordError("no_answer", "no answer: no message has the role assistant")
    return messages


def _history(record: Record) -> list[Message]:
    """Return the earlier turns in the column `history`."""
    before = record.get("history")
    if is_missing(before) or before == "[]":
        return []
    turns = listed(before, "history")
    if all(isinstance(turn, dict) for turn in turns):
        return [m for number, turn in enumerate(turns, 1) for m in _messages(turn, number)]
    messages: list[Message] = []
    for pair in turns:
        if not (isinstance(pair, (list, tuple)) and [type(part) for part in pair] == [str, str]):
            raise FaultyRecordError("bad_type", "history is not a list of [question, answer] texts")
        question, answer = pair
        messages += [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    return messages


def _messages(value: Any, number: int) -> list[Message]:
    """Return the message, or both of a pair such as `{"user": ..., "assistant": ...}`."""
    if isinstance(value, dict) and "role" not in value and "from" not in value:
        roles = [k for k in value if str(k).lower() in SPEAKERS]
        if roles and len(roles) == len(value):
            return [_message({"role": k, "content": value[k]}, number) for k in roles]
    return [_message(value, number)]


def _message(value: Any, number: int) -> Message:
    if not isinstance(value, dict):
        raise FaultyRecordError("bad_type", f"message {number} is {type_in_words(value)}")
    role_key = next((k for k in ("role", "from") if k in value), None)
    if role_key is None:
        fields = ", ".join(map(str, value))
        raise FaultyRecordError("no_role", f"message {number} has no role (its fields: {fields})")
    role = value[role_key]
    if not isinstance(role, str) or role.strip().lower() not in SPEAKERS:
        raise FaultyRecordError(
            "unknown_role",
            f"message {number} has the unknown role {role!r}; known are {', '.join(ROLES)} "
            "(and human, gpt, observation as in ShareGPT)",
        )
    content_key = next((k for k in ("content", "value", "text") if k in value), "content")
    more = {k: v for k, v in value.items() if k not in (role_key, content_key) and v is not None}
    message = {"role": SPEAKERS[role.strip().lower()], "content": value.get(content_key), **more}
    if role.strip().lower() in _CALLS and isinstance(message["content"], str):
        message["tool_calls"] = calls_of_text(message["content"], number)
        message["content"] = None
    for key in ("tool_calls", "function_call"):
        if key in message and is_empty(message[key]):
            del message[key]
    if (
        "function_call" in message and "tool_calls" not in message
    ):  # the first form of OpenAI's tool calls
        message["tool_calls"] = [{"type": "function", "function": message.pop("function_call")}]
    refusal = message.pop("refusal", None)
    if is_empty(message["content"]) and isinstance(refusal, str):  # as OpenAI's client writes it
        message["content"] = refusal
    elif not is_empty(refusal):
        raise FaultyRecordError(
            "bad_type", f"message {number} has both a content and a refusal; keep one of them"
        )
    _unify(message, number)
    return message


def _unify(message: Message, number: int) -> None:
    """Make the content a text, name the reasoning `reasoning_content`, parse call arguments."""
    content = message["content"]
    if message["role"] == "tool" and not (content is None or isinstance(content, str)):
        content = content if _has_parts(content) else json.dumps(content, ensure_ascii=False)
    if isinstance(content, list):
        content = _of_parts(content, message, number)
    reasoning = next((message[k] for k in _REASONING if message.get(k)), None)
    for key in _REASONING:
        message.pop(key, None)
    if reasoning is not None:
        if not isinstance(reasoning, str):
            reason = f"the reasoning of message {number} is {type_in_words(reasoning)}, not a text"
            raise FaultyRecordError("bad_type", reason)
        message["reasoning_content"] = reasoning
    calls = message.get("tool_calls")
    if calls is not None:
        message["tool_calls"] = [call_in(c, number) for c in listed_calls(calls)]
    if content is None and (calls or reasoning):
        content = ""
    if not isinstance(content, str):
        reason = f"the content of message {number} is {type_in_words(content)}, not a text"
        raise FaultyRecordError("bad_type", reason)
    if message["role"] == "assistant" and not (calls or reasoning or content.strip()):
        raise FaultyRecordError("empty_answers", f"the answer in message {number} is empty")
    message["content"] = content


def _has_parts(content: Any) -> bool:
    """Return whether a content is a list of parts such as `{"type": "text", "text": ...}`."""
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") in _PARTS for part in content
    )


def _of_parts(parts: list[Any], message: Message, number: int) -> str:
    texts: list[str] = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        names = ("text", "value", "thinking", "reasoning")
        inner = next((part[k] for k in names if k in part), None) if kind else None
        if kind == "tool_call" and isinstance(inner, str):
            before = message.get("tool_calls")
            calls = listed_calls(before) if before else []
            message["tool_calls"] = [*calls, *calls_of_text(inner, number)]
            continue
        if kind not in ("text", "thinking", "reasoning") or not isinstance(inner, str):
            reason = (
                f"message {number} has a part of type {kind!r}, where only texts can be learned"
            )
            raise FaultyRecordError("bad_type", reason)
        if kind == "text":
            texts.append(inner)
        else:
            message["reasoning_content"] = message.get("reasoning_content", "") + inner
    return "".join(texts)
