"""Turns of a conversation: answers in several messages joined, weights taken out."""

import math

from strop.data.formats.cells import FaultyRecordError
from strop.data.rows import Message

_WEIGHT = ("weight", "loss_weight", "train")


def merged_turns(messages: list[Message]) -> list[Message]:
    """Return the messages with the parts of each answer merged into one message.

    Some data sets give the reasoning, the text and the tool calls of an answer as messages of their
    own, although a model ends them once. Two texts in a row stay two messages.

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
        answers = message["content"].strip() or "tool_calls" in message
        if message["role"] == "assistant" and not answers:
            reason = f"the answer in message {number} is empty behind its reasoning"
            raise FaultyRecordError("empty_answers", reason)
    return merged


def _continues(before: Message, message: Message) -> bool:
    """Return whether a message continues the answer in the one before it."""
    if not before["role"] == message["role"] == "assistant":
        return False
    if any(before.get(key) != message.get(key) for key in ("name", *_WEIGHT)):
        return False
    thinks_only = not before["content"].strip() and "tool_calls" not in before
    calls_only = not message["content"].strip() and "tool_calls" in message
    return thinks_only or (calls_only and (not message.get("reasoning_content")))


def _joined(before: Message, message: Message) -> Message:
    """Return two messages of one answer, merged."""
    thoughts = [m["reasoning_content"] for m in (before, message) if m.get("reasoning_content")]
    calls = [*before.get("tool_calls", ()), *message.get("tool_calls", ())]
    joined = {**before, **message, "content": before["content"] + message["content"]}
    if thoughts:
        joined["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        joined["tool_calls"] = calls
    return joined


def weights_of(messages: list[Message]) -> tuple[float, ...] | None:
    """Remove `weight`, `loss_weight` and `train` from the messages and return the weights, if any.

    Raises:
        FaultyRecordError: a weight is no number, negative or infinite.
    """
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
