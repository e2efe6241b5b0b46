"""The formats of rows: which columns each has, and how a record becomes a row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from strop.data.messages import (
    FaultyRecordError,
    asked,
    conversation,
    listed,
    optional_text,
    text_in,
    tools_in,
    weights_of,
)
from strop.data.record import Record, spoken_type
from strop.data.rows import Fault, Message, Row


@dataclass(slots=True)
class Made:
    """What a record is made of, before its line is known."""

    messages: list[Message] | None = None
    text: str | None = None
    rejected: list[Message] | None = None
    label: bool | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One way to lay out a row in columns."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """For each thing a row must have, the names its column may bear."""
    build: Callable[[Record, list[str]], Made]
    """Makes the row out of the record and the found column names."""
    also: tuple[str, ...] = ()
    """Columns it reads where they are there."""

    def columns(self, record: Record) -> list[str] | None:
        """Return the record's column for each need, or None if one is missing."""
        found = [next((c for c in names if c in record), None) for names in self.needs]
        return None if None in found else [c for c in found if c is not None]

    def spoken(self) -> str:
        """Return the columns in words."""
        return " + ".join(names[0] for names in self.needs)


def _from_messages(record: Record, columns: list[str]) -> Made:
    return Made(conversation(listed(record[columns[0]], columns[0]), record))


def _turns(record: Record, column: str, role: str) -> list[Any]:
    """Return the messages in a column that holds a text or messages."""
    value = record[column]
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    return [{"role": role, "content": text_in(record, column, empty=role == "user")}]


def _from_prompt(record: Record, columns: list[str]) -> Made:
    prompt, completion = columns
    if isinstance(record[prompt], list) or isinstance(record[completion], (list, dict)):
        turns = _turns(record, prompt, "user") + _turns(record, completion, "assistant")
        return Made(conversation(turns, record))
    answer = text_in(record, completion, empty=False)
    return Made(asked(text_in(record, prompt), answer, record))


def _from_prompt_alone(record: Record, columns: list[str]) -> Made:
    if isinstance(record[columns[0]], list):
        return Made(conversation(listed(record[columns[0]], columns[0]), record, answered=False))
    return Made(asked(text_in(record, columns[0], empty=False), None, record))


def _from_instruction(record: Record, columns: list[str]) -> Made:
    instruction, output = columns
    answer = text_in(record, output, empty=False)
    question = text_in(record, instruction)
    if more := optional_text(record, "input", "context"):
        question = f"{question}\n\n{more}" if question else more
    return Made(asked(question, answer, record))


def _from_text(record: Record, columns: list[str]) -> Made:
    return Made(text=text_in(record, columns[0], empty=False))


_PROMPTS = ("prompt", "question", "instruction", "messages", "conversations")


def _from_preference(record: Record, columns: list[str]) -> Made:
    before: list[Any] = []
    if column := next((c for c in _PROMPTS if record.get(c)), None):
        before = _turns(record, column, "user")
    chosen, rejected = (_turns(record, c, "assistant") for c in columns)
    if column is None and all(isinstance(record[c], str) for c in columns):
        raise FaultyRecordError(
            "no_answer", "chosen and rejected are texts without a prompt; add a column prompt"
        )
    repeated = before and chosen[: len(before)] == before
    better, worse = ([*([] if repeated else before), *part] for part in (chosen, rejected))
    if _trimmed(better) == _trimmed(worse):
        raise FaultyRecordError("equal_pair", "chosen and rejected are equal, so nothing differs")
    return Made(conversation(better, record), rejected=conversation(worse, record))


def _trimmed(messages: list[Any]) -> list[Any]:
    """Return the messages without the space around their texts."""
    return [
        {k: v.strip() if isinstance(v, str) else v for k, v in m.items()}
        if isinstance(m, dict)
        else m
        for m in messages
    ]


def _from_kto(record: Record, columns: list[str]) -> Made:
    made = (
        _from_prompt(record, columns[:2]) if len(columns) == 3 else _from_messages(record, columns)
    )
    label = record[columns[-1]]
    if isinstance(label, str) and label.strip().lower() in ("true", "false", "1", "0"):
        label = label.strip().lower() in ("true", "1")
    if label not in (True, False):
        raise FaultyRecordError(
            "bad_type",
            f"{columns[-1]} is {spoken_type(label)} ({label!r}), not true or false, as KTO marks "
            "wanted answers; rename the column if it says something else",
        )
    made.label = bool(label)
    return made


_CHATS = ("conversations", "conversation", "dialogue", "dialog", "chat", "turns", "items")
_ANSWERS = ("completion", "response", "answer", "solution", "ground_truth", "target")
_SYSTEM = ("system", "system_prompt", "tools", "functions", "history")
_WANTED = ("label", "kto_tag")

FORMATS = (
    Format(
        "preference",
        (("chosen", "chosen_messages"), ("rejected", "rejected_messages")),
        _from_preference,
        (*_PROMPTS, *_SYSTEM),
    ),
    Format("kto", (("prompt",), _ANSWERS, _WANTED), _from_kto, _SYSTEM),
    Format("kto", (("messages", *_CHATS), _WANTED), _from_kto, _SYSTEM),
    Format("messages", (("messages",),), _from_messages, _SYSTEM),
    Format("conversations", (_CHATS,), _from_messages, _SYSTEM),
    Format(
        "instruction",
        (("instruction",), ("output", *_ANSWERS)),
        _from_instruction,
        ("input", "context", *_SYSTEM),
    ),
    Format("prompt_completion", (("prompt",), _ANSWERS), _from_prompt, _SYSTEM),
    Format("question_answer", (("question", "query"), _ANSWERS), _from_prompt, _SYSTEM),
    Format("input_output", (("input",), ("output", "ideal")), _from_prompt, _SYSTEM),
    Format("text", (("text", "content"),), _from_text),
    Format("prompt", (("prompt",),), _from_prompt_alone, _SYSTEM),
)
"""Every format, the one that wins where several fit a row first."""

_DEEPEST = 64
"""Levels that lists and objects of a row may be nested."""

KNOWN_COLUMNS = frozenset(name for f in FORMATS for names in (*f.needs, f.also) for name in names)


def row_of(line: int, record: Record, layout: Format, columns: list[str]) -> Row | Fault:
    """Return the record as a row, or why it is none."""
    try:
        made = layout.build(record, columns)
        tools = tools_in(record)
        _check_texts((made.messages, made.text, tools, made.rejected))
        weights = weights_of(made.messages) if made.messages else None
        return Row(line, made.messages, made.text, tools, made.rejected, made.label, weights)
    except FaultyRecordError as e:
        return Fault(line, str(e), e.kind)


def _check_texts(value: Any, depth: int = 0) -> None:
    """Refuse half a character, which JSON can spell and no tokenizer can read, and deep nesting."""
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as e:
                reason = f"a text has half a character (\\u{ord(value[e.start]):04x})"
                raise FaultyRecordError("lone_surrogate", reason) from e
    elif depth > _DEEPEST:
        raise FaultyRecordError("bad_json", f"nested more than {_DEEPEST} levels deep")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key, depth + 1)
            _check_texts(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_texts(item, depth + 1)
