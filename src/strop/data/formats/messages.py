"""Brings the messages of any layout into one form: `role` and `content`, as templates want them."""

import json
import math
from collections.abc import Sequence
from typing import Any

from strop.data.formats.forms import Arguments
from strop.data.formats.record import Record, is_missing, parsed, spelled, spoken_type
from strop.data.rows import Message


class FaultyRecordError(ValueError):
    """A record that cannot become a row; the text says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


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
_WEIGHT = ("weight", "loss_weight", "train")


def text_in(record: Record, column: str, *, empty: bool = True) -> str:
    """Return the text in a column, a number's as written, or raise what is wrong with it."""
    value = record[column]
    if not isinstance(value, str):
        value = spelled(value)
    if value is None:
        value = record[column]
        raise FaultyRecordError("bad_type", f"{column} is {spoken_type(value)}, not a text")
    if not empty and not value.strip():
        kind = "empty_text" if column == "text" else "empty_answers"
        raise FaultyRecordError(kind, f"{column} is empty")
    return value


def optional_text(record: Record, *columns: str) -> str:
    """Return the text of the first of the columns that holds one, or an empty text."""
    for column in columns:
        if not is_missing(record.get(column)):
            return text_in(record, column)
    return ""


def listed(value: Any, column: str) -> list[Any]:
    """Return the list in a column, where a table may hold it as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parsed(value, column)
    if not isinstance(value, list):
        raise FaultyRecordError("bad_type", f"{column} is {spoken_type(value)}, not a list")
    if not value:
        raise FaultyRecordError("no_answer", f"{column} is an empty list")
    return value


def is_empty(value: Any) -> bool:
    """Say whether a value stands for nothing: null, or an empty text, list or object."""
    if isinstance(value, str):
        return "".join(value.split()) in ("", "[]", "{}", "null")
    return value is None or (isinstance(value, (list, dict)) and not value)


def tools_in(record: Record) -> list[Any] | None:
    """Return the tools a record offers, or None if it offers none."""
    column = next((c for c in ("tools", "functions") if not is_empty(record.get(c))), None)
    if column is None:
        return None
    value = record[column]
    offered = [tool for tool in listed(value, column) if not is_empty(tool)]
    if not offered:
        return None
    tools = [_tool(tool, number) for number, tool in enumerate(offered, 1)]
    if column == "functions":  # what OpenAI's first form of tool calls names them
        return [{"type": "function", "function": tool} for tool in tools]
    return tools


def _tool(tool: Any, number: int) -> dict[str, Any]:
    value = _parsed(tool, f"tool {number}") if isinstance(tool, str) else tool
    if not isinstance(value, dict):
        raise FaultyRecordError(
            "bad_type", f"tool {number} is {spoken_type(value)}, not an object that describes it"
        )
    return value


def _parsed(text: str, what: str) -> Any:
    """Return the value that a text holds as JSON, or raise what is wrong with it."""
    try:
        return parsed(text)
    except ValueError as e:
        hint = "; it is written as Python, not as JSON" if text[:2] in ("[{", "{'") else ""
        raise FaultyRecordError("bad_json", f"{what} is not valid JSON: {e}{hint}") from e


def conversation(values: Sequence[Any], record: Record, *, answered: bool = True) -> list[Message]:
    """Return the messages in one form, with the record's system prompt first.

    Args:
        values: the messages as the data has them.
        record: where a system prompt may stand beside them.
        answered: whether there must be an answer.
    """
    messages = [m for i, value in enumerate(values, 1) for m in _messages(value, i)]
    system = optional_text(record, "system", "system_prompt")
    if system and not (messages and messages[0]["role"] in ("system", "developer")):
        messages.insert(0, {"role": "system", "content": system})
    first = int(bool(messages) and messages[0]["role"] in ("system", "developer"))
    messages[first:first] = _history(record)
    if answered and not any(m["role"] == "assistant" for m in messages):
        raise FaultyRecordError("no_answer", "no answer: no message has the role assistant")
    return messages


def _history(record: Record) -> list[Message]:
    """Return the earlier turns that a record has beside the present one."""
    before = record.get("history")
    if is_missing(before) or before == "[]":
        return []
    turns = listed(before, "history")
    if all(isinstance(turn, dict) for turn in turns):
        return [m for number, turn in enumerate(turns, 1) for m in _messages(turn, number)]
    made: list[Message] = []
    for pair in turns:
        if not (isinstance(pair, (list, tuple)) and [type(part) for part in pair] == [str, str]):
            raise FaultyRecordError("bad_type", "history is not a list of [question, answer] texts")
        made += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return made


def _messages(value: Any, number: int) -> list[Message]:
    """Return the message, or both of a pair such as `{"user": ..., "assistant": ...}`."""
    if isinstance(value, dict) and "role" not in value and "from" not in value:
        spoken = [k for k in value if str(k).lower() in SPEAKERS]
        if spoken and len(spoken) == len(value):
            return [_message({"role": k, "content": value[k]}, number) for k in spoken]
    return [_message(value, number)]


def _message(value: Any, number: int) -> Message:
    if not isinstance(value, dict):
        raise FaultyRecordError("bad_type", f"message {number} is {spoken_type(value)}")
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
        message["tool_calls"] = _calls_of_text(message["content"], number)
        message["content"] = None
    for key in ("tool_calls", "function_call"):
        if key in message and is_empty(message[key]):
            del message[key]
    if "function_call" in message and "tool_calls" not in message:  # OpenAI's first form of them
        message["tool_calls"] = [{"type": "function", "function": message.pop("function_call")}]
    refusal = message.pop("refusal", None)
    if is_empty(message["content"]) and isinstance(refusal, str):  # as OpenAI's client dumps one
        message["content"] = refusal
    elif not is_empty(refusal):
        raise FaultyRecordError(
            "bad_type", f"message {number} has both a content and a refusal; keep one of them"
        )
    _unify(message, number)
    return message


def _calls_of_text(text: str, number: int) -> list[dict[str, Any]]:
    call = _parsed(text, f"the function call in message {number}")
    calls = call if isinstance(call, list) else [call]
    return [{"type": "function", "function": c} for c in calls]


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
            reason = f"the reasoning of message {number} is {spoken_type(reasoning)}, not a text"
            raise FaultyRecordError("bad_type", reason)
        message["reasoning_content"] = reasoning
    calls = message.get("tool_calls")
    if calls is not None:
        message["tool_calls"] = [_call(c, number) for c in _listed_calls(calls)]
    if content is None and (calls or reasoning):
        content = ""
    if not isinstance(content, str):
        reason = f"the content of message {number} is {spoken_type(content)}, not a text"
        raise FaultyRecordError("bad_type", reason)
    if message["role"] == "assistant" and not (calls or reasoning or content.strip()):
        raise FaultyRecordError("empty_answers", f"the answer in message {number} is empty")
    message["content"] = content


def _has_parts(content: Any) -> bool:
    """Say whether a content is a list of parts such as `{"type": "text", "text": ...}`."""
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") in _PARTS for part in content
    )


def _listed_calls(calls: Any) -> list[Any]:
    """Return tool calls as a list, where one may stand alone, as an object or as JSON text."""
    if isinstance(calls, str) and calls.lstrip().startswith("{"):
        calls = _parsed(calls, "tool_calls")
    return [calls] if isinstance(calls, dict) else listed(calls, "tool_calls")


def _of_parts(parts: list[Any], message: Message, number: int) -> str:
    texts: list[str] = []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        names = ("text", "value", "thinking", "reasoning")
        inner = next((part[k] for k in names if k in part), None) if kind else None
        if kind == "tool_call" and isinstance(inner, str):
            message.setdefault("tool_calls", []).extend(_calls_of_text(inner, number))
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


def _call(call: Any, number: int) -> Any:
    """Return a tool call with its arguments as an object, which every template can write."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise FaultyRecordError("bad_type", f"a tool call in message {number} has no function name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        arguments = Arguments(parsed, arguments) if isinstance(parsed, dict) else arguments
    made = {**function, "arguments": arguments}
    return {**call, "function": made} if "function" in call else made


def merged_turns(messages: list[Message]) -> list[Message]:
    """Return the messages with each answer that stands in several as one.

    A thought, the words beside a call and the calls belong to one answer, which a model ends once;
    some data sets have them as messages of their own. Two texts that follow each other stay two.

    Raises:
        FaultyRecordError: an answer is reasoning alone.
    """
    merged: list[Message] = []
    for message in messages:
        if merged and _continues(merged[-1], message):
            merged[-1] = _joined(merged[-1], message)
        else:
            merged.append(message)
    for number, message in enumerate(merged, 1):
        said = message["content"].strip() or "tool_calls" in message
        if message["role"] == "assistant" and not said:
            reason = f"the answer in message {number} is empty behind its reasoning"
            raise FaultyRecordError("empty_answers", reason)
    return merged


def _continues(before: Message, message: Message) -> bool:
    """Say whether a message goes on with the answer in the one before it."""
    if not before["role"] == message["role"] == "assistant":
        return False
    named = ("name", *_WEIGHT)
    if any(before.get(key) != message.get(key) for key in named):
        return False
    thinks_only = not before["content"].strip() and "tool_calls" not in before
    calls_only = not message["content"].strip() and "tool_calls" in message
    return thinks_only or (calls_only and (not message.get("reasoning_content")))


def _joined(before: Message, message: Message) -> Message:
    """Return two messages of one answer as one."""
    thoughts = [m["reasoning_content"] for m in (before, message) if m.get("reasoning_content")]
    calls = [*before.get("tool_calls", ()), *message.get("tool_calls", ())]
    joined = {**before, **message, "content": before["content"] + message["content"]}
    if thoughts:
        joined["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        joined["tool_calls"] = calls
    return joined


def weights_of(messages: list[Message]) -> tuple[float, ...] | None:
    """Take each message's `weight` or `train` field out of it; None if no message has one."""
    if not any(key in m for m in messages for key in _WEIGHT):
        return None
    weights = []
    for number, message in enumerate(messages, 1):
        given = [message.pop(key) for key in _WEIGHT if key in message]
        weight = given[0] if given else 1.0
        if not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise FaultyRecordError("bad_type", f"message {number} has the weight {weight!r}")
        weights.append(float(weight))
    return tuple(weights)
