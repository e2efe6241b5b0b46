"""Builders of rows: one function for each format, from a record to the content of its row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strop.data.formats.cells import FaultyRecordError, listed, text_in
from strop.data.formats.classification import question_and_label
from strop.data.formats.messages import conversation
from strop.data.formats.questions import (
    QUESTIONS,
    answer_in,
    beside,
    reasoning_in,
    with_context,
)
from strop.data.formats.record import Record, is_missing, type_in_words
from strop.data.formats.tool_calls import tools_in
from strop.data.formats.transcripts import alternating, calls_in, transcript
from strop.data.rows import Message

PROMPTS = (*QUESTIONS, "messages", "conversations")
"""Columns with the prompt of a preference pair, the first of them that is filled."""


@dataclass(slots=True)
class RowContent:
    """Fields of `Row` that a record fills."""

    messages: list[Message] | None = None
    text: str | None = None
    rejected: list[Message] | None = None
    label: bool | None = None


def from_messages(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return the conversation in a column of messages, or of texts in turn."""
    return RowContent(conversation(alternating(listed(record[columns[0]], columns[0])), record))


def _turns(record: Record, column: str, role: str) -> list[Any]:
    """Return the messages in a column that holds a text or messages."""
    value = record[column]
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    return [{"role": role, "content": text_in(record, column, empty=role == "user")}]


def _question(record: Record, column: str, columns: Sequence[str]) -> list[Any]:
    """Return the messages of a question, followed by its context and choices."""
    if not isinstance(record[column], (list, dict)):
        question = with_context(record, text_in(record, column), columns)
        return [{"role": "user", "content": question}]
    if more := beside(record, columns):
        raise FaultyRecordError(
            "bad_type",
            f"{', '.join(more)} stands beside a {column} of messages; write it into a message",
        )
    return _turns(record, column, "user")


def from_question(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return a conversation of a question and an answer, each a text or messages."""
    question, answer = columns[0], columns[-1]
    value = record[answer]
    turns = _question(record, question, columns)
    if calls := calls_in(value, tools_in(record)):
        turns = [*turns, {"role": "assistant", "tool_calls": calls}]
    elif _is_messages(value) or (value == [] and isinstance(record[question], list)):
        turns = [*turns, *_turns(record, answer, "assistant")]
    else:
        turns = [*turns, {"role": "assistant", "content": answer_in(record, answer, columns[:-1])}]
    messages = conversation(turns, record)
    if thought := reasoning_in(record):
        last = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
        if messages[last].get("reasoning_content"):
            raise FaultyRecordError(
                "bad_type",
                "the answer has reasoning in its message and in a column; keep one of them",
            )
        messages[last] = {**thought, **messages[last]}
    return RowContent(messages)


def _is_messages(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key in value for key in ("role", "from", "content"))
    return isinstance(value, list) and any(isinstance(part, dict) for part in value)


def from_choices(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return a conversation of a question with choices and the letter of its answer."""
    return from_question(record, [columns[0], columns[2]], instruction)


def from_prompt_alone(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return a conversation that has no answer."""
    column = columns[0]
    if isinstance(record[column], list):
        listed(record[column], column)
    else:
        text_in(record, column, empty=False)
    return RowContent(conversation(_question(record, column, columns), record, answered=False))


def from_text(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return a plain text."""
    return RowContent(text=text_in(record, columns[0], empty=False))


def from_labelled(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return a conversation of instruction and text, with the label as its answer."""
    return RowContent(conversation(question_and_label(record, columns, instruction), record))


def from_preference(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return the chosen and the rejected conversation, each behind the prompt."""
    before: list[Any] = []
    if column := next((c for c in PROMPTS if not is_missing(record.get(c))), None):
        before = _question(record, column, [column])
    elif more := beside(record, ()):
        before = [{"role": "user", "content": with_context(record, "", ())}]
        column = more[0]
    chosen, rejected = (_turns(record, c, "assistant") for c in columns)
    if column is None and all(isinstance(record[c], str) for c in columns):
        better, worse = (transcript(record[c]) for c in columns)
        if better and worse:
            return _pair(record, better, worse)
        raise FaultyRecordError(
            "no_answer",
            "chosen and rejected are texts without a prompt; add a column prompt, or begin both "
            "with Human: and write Assistant: before the answer, as HH-RLHF does",
        )
    repeated = before and chosen[: len(before)] == before
    better, worse = ([*([] if repeated else before), *part] for part in (chosen, rejected))
    return _pair(record, better, worse)


def _pair(record: Record, better: list[Any], worse: list[Any]) -> RowContent:
    if _trimmed(better) == _trimmed(worse):
        raise FaultyRecordError("equal_pair", "chosen and rejected are equal, so nothing differs")
    return RowContent(conversation(better, record), rejected=conversation(worse, record))


def _trimmed(messages: list[Any]) -> list[Any]:
    """Return the messages with their texts stripped of surrounding white space."""
    return [
        {k: v.strip() if isinstance(v, str) else v for k, v in m.items()}
        if isinstance(m, dict)
        else m
        for m in messages
    ]


def from_kto(record: Record, columns: list[str], instruction: str | None) -> RowContent:
    """Return a conversation with its KTO label: whether its answer is desirable."""
    build = from_question if len(columns) == 3 else from_messages
    content = build(record, columns[:-1], instruction)
    label = record[columns[-1]]
    if isinstance(label, str) and label.strip().lower() in ("true", "false", "1", "0"):
        label = label.strip().lower() in ("true", "1")
    if label not in (True, False):
        raise FaultyRecordError(
            "bad_type",
            f"{columns[-1]} is {type_in_words(label)} ({label!r}), not true or false, as KTO marks "
            "wanted answers; rename the column if it says something else",
        )
    content.label = bool(label)
    return content
