"""The formats of rows: which columns each has, and how a record becomes a conversation."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from strop.data.rows import Fault, Message, Row
from strop.data.sources import Record, spoken_type


class FaultyRecordError(ValueError):
    """A record that cannot become a row; the text says why."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Format:
    """One way to lay out a row in columns."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """For each thing a row must have, the names its column may bear."""
    build: Callable[[Record, list[str]], tuple[list[Message] | None, str | None]]
    """Makes the conversation or the text out of the record and the found column names."""

    def columns(self, record: Record) -> list[str] | None:
        """Return the record's column for each need, or None if one is missing."""
        found = [next((c for c in names if c in record), None) for names in self.needs]
        return None if None in found else [c for c in found if c is not None]

    def spoken(self) -> str:
        """Return the columns in words."""
        return " + ".join(names[0] for names in self.needs)


ROLES = ("system", "developer", "user", "assistant", "tool")
_ALIASES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    **{role: role for role in ROLES},
}


def _text(record: Record, column: str, *, empty: bool = True) -> str:
    value = record[column]
    if not isinstance(value, str):
        raise FaultyRecordError("bad_type", f"{column} is {spoken_type(value)}, not a text")
    if not empty and not value.strip():
        kind = "empty_text" if column == "text" else "empty_answer"
        raise FaultyRecordError(kind, f"{column} is empty")
    return value


def _optional(record: Record, *columns: str) -> str:
    for column in columns:
        if record.get(column) not in (None, ""):
            return _text(record, column)
    return ""


def _listed(value: Any, column: str) -> list[Any]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as e:
            raise FaultyRecordError("bad_json", f"{column} is not valid JSON: {e}") from e
    if not isinstance(value, list):
        raise FaultyRecordError("bad_type", f"{column} is {spoken_type(value)}, not a list")
    if not value:
        raise FaultyRecordError("no_answer", f"{column} is an empty list")
    return value


def _message(value: Any, number: int) -> Message:
    if not isinstance(value, dict):
        raise FaultyRecordError("bad_type", f"message {number} is {spoken_type(value)}")
    role_key = next((k for k in ("role", "from") if k in value), None)
    if role_key is None:
        raise FaultyRecordError(
            "no_role", f"message {number} has no role (its fields: {', '.join(map(str, value))})"
        )
    role = value[role_key]
    if not isinstance(role, str) or role.strip().lower() not in _ALIASES:
        raise FaultyRecordError(
            "unknown_role",
            f"message {number} has the unknown role {role!r}; known are {', '.join(ROLES)} "
            "(and human, gpt, observation as in ShareGPT)",
        )
    content_key = next((k for k in ("content", "value", "text") if k in value), "content")
    message = {k: v for k, v in value.items() if k not in (role_key, content_key) and v is not None}
    message = {"role": _ALIASES[role.strip().lower()], "content": value.get(content_key), **message}
    _check_content(message, number)
    if message["content"] is None:
        message["content"] = ""
    return message


def _check_content(message: Message, number: int) -> None:
    content, role = message["content"], message["role"]
    parts = isinstance(content, list) and all(isinstance(part, dict) for part in content)
    if not (isinstance(content, str) or parts or (content is None and message.get("tool_calls"))):
        raise FaultyRecordError(
            "bad_type", f"the content of message {number} is {spoken_type(content)}, not a text"
        )
    if role == "assistant" and not message.get("tool_calls"):
        texts = (
            content
            if isinstance(content, str)
            else "".join(str(part.get("text", "")) for part in content or ())
        )
        if not texts.strip():
            raise FaultyRecordError("empty_answer", f"the answer in message {number} is empty")


def _conversation(values: Sequence[Any], record: Record) -> list[Message]:
    messages = [_message(value, i) for i, value in enumerate(values, 1)]
    system = _optional(record, "system", "system_prompt")
    if system and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    if not any(m["role"] == "assistant" for m in messages):
        raise FaultyRecordError("no_answer", "no answer: no message has the role assistant")
    return messages


def _from_messages(record: Record, columns: list[str]) -> tuple[list[Message], None]:
    return _conversation(_listed(record[columns[0]], columns[0]), record), None


def _asked(question: str, answer: str, record: Record) -> list[Message]:
    system = _optional(record, "system", "system_prompt")
    first = [{"role": "system", "content": system}] if system else []
    return [
        *first,
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def _from_prompt(record: Record, columns: list[str]) -> tuple[list[Message], None]:
    prompt, completion = columns
    if isinstance(record[prompt], list) or isinstance(record[completion], list):
        turns: list[Any] = []
        for column, role in ((prompt, "user"), (completion, "assistant")):
            value = record[column]
            as_list = isinstance(value, list)
            turns += value if as_list else [{"role": role, "content": _text(record, column)}]
        return _conversation(turns, record), None
    answer = _text(record, completion, empty=False)
    return _asked(_text(record, prompt), answer, record), None


def _from_instruction(record: Record, columns: list[str]) -> tuple[list[Message], None]:
    instruction, output = columns
    answer = _text(record, output, empty=False)
    question = _text(record, instruction)
    if more := _optional(record, "input", "context"):
        question = f"{question}\n\n{more}" if question else more
    return _asked(question, answer, record), None


def _from_text(record: Record, columns: list[str]) -> tuple[None, str]:
    return None, _text(record, columns[0], empty=False)


FORMATS = (
    Format("messages", (("messages",),), _from_messages),
    Format("conversations", (("conversations", "conversation"),), _from_messages),
    Format(
        "instruction",
        (("instruction",), ("output", "response", "completion", "answer")),
        _from_instruction,
    ),
    Format("prompt_completion", (("prompt",), ("completion", "response", "answer")), _from_prompt),
    Format("question_answer", (("question", "query"), ("answer", "response")), _from_prompt),
    Format("input_output", (("input",), ("output",)), _from_prompt),
    Format("text", (("text",),), _from_text),
)
"""Every format, the one that wins where several fit a row first."""

KNOWN_COLUMNS = frozenset(name for f in FORMATS for names in f.needs for name in names)


def row_of(line: int, record: Record, layout: Format, columns: list[str]) -> Row | Fault:
    """Return the record as a row, or why it is none."""
    try:
        messages, text = layout.build(record, columns)
        _check_surrogates(record)
        return Row(line, messages, text, _tools(record))
    except FaultyRecordError as e:
        return Fault(line, str(e), e.kind)


def _tools(record: Record) -> list[dict[str, Any]] | None:
    value = record.get("tools")
    if not value:
        return None
    tools = _listed(value, "tools")
    return tools or None


def _check_surrogates(value: Any) -> None:
    """Refuse half a character, which JSON can spell and no tokenizer can read."""
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as e:
                raise FaultyRecordError(
                    "lone_surrogate",
                    f"a text has half a character (\\u{ord(value[e.start]):04x})",
                ) from e
    elif isinstance(value, dict):
        for item in value.values():
            _check_surrogates(item)
    elif isinstance(value, list):
        for item in value:
            _check_surrogates(item)
