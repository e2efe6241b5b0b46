"""Questions in several columns: context, choices, answer, reasoning."""

import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from strop.data.formats.cells import FaultyRecordError, text_in
from strop.data.formats.record import Record, is_missing, parsed, spelled, type_in_words

QUESTIONS = ("prompt", "question", "instruction", "query", "problem")
CHOICE_QUESTIONS = (*QUESTIONS, "question_stem", "sentence", "goal", "ctx")
"""Columns of a question that has choices."""
ANSWERS = ("completion", "response", "answer", "solution", "ground_truth", "target", "output")
LETTERS = (
    *("answerkey", "answer_key", "answer_idx", "answer_index", "answer_letter", "correct_answer"),
    *("correct_option", "correct_choice", "cop", "label", "target"),
)
"""Columns in which the answer is one of the choices."""
INPUT = ("input", "inputs")
CONTEXT = (
    *("context", "contexts", "passage", "passages", "document", "documents", "background"),
    *("evidence", "paragraph", "paragraphs", "article", "story"),
)
CHOICES = ("choices", "options", "endings")
REASONING = (
    *("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "rationale"),
    *("chain_of_thought", "complex_cot", "cot", "reasoning_trace", "think"),
)
BESIDE = (*((name,) for name in (*INPUT, *CONTEXT)), CHOICES)
"""Columns that follow the question, in this order; of each group the first that is there."""


def with_context(record: Record, question: str, columns: Sequence[str]) -> str:
    """Return the question, its context and choices, joined by empty lines.

    Args:
        record: the row.
        question: its question.
        columns: columns that are read as something else, such as the question.
    """
    parts = [question]
    for name in (*INPUT, *CONTEXT):
        if name not in columns and not is_missing(record.get(name)):
            parts.append(passages(record, name))
    if (choices := choices_in(record, columns)) is not None:
        parts.append("\n".join(f"{letter}. {text}" for letter, text in choices.items()))
    elif column := _choices_column(record, columns):
        parts.append(text_in(record, column))
    return "\n\n".join(part for part in parts if part.strip())


def beside(record: Record, columns: Sequence[str]) -> list[str]:
    """Return the columns of a record with context or choices of its question."""
    names = (*INPUT, *CONTEXT, *CHOICES)
    return [n for n in names if n not in columns and not is_missing(record.get(n))]


def passages(record: Record, column: str) -> str:
    """Return the text in a column, or the texts of a list joined by empty lines."""
    value = record[column]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(part for part in value if part.strip())
    return text_in(record, column)


def choices_in(record: Record, columns: Sequence[str] = ()) -> dict[str, str] | None:
    """Return the choices of a question by their letters; None if it has none, or a plain text.

    They may be a list, an object by letters, or `{"text": [...], "label": [...]}`, in a table also
    as JSON or as Python writes it.
    """
    column = _choices_column(record, columns)
    value = record[column] if column else None
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = parsed(value)
        except ValueError as e:
            raise FaultyRecordError(
                "bad_json", f"{column} is neither JSON nor a Python list: {e}"
            ) from e
    if value is None or isinstance(value, str):
        return None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        texts, labels = value["text"], value.get("label")
    elif isinstance(value, dict):
        texts, labels = list(value.values()), list(value)
    else:
        texts, labels = value, None
    if not isinstance(texts, list):
        reason = f"{column} is {type_in_words(value)}, not a list of choices"
        raise FaultyRecordError("bad_type", reason)
    choices = [text if isinstance(text, str) else spelled(text) for text in texts]
    if not choices or None in choices:
        raise FaultyRecordError("bad_type", f"{column} holds a choice that is not a text")
    letters = _letters(len(choices)) if labels is None else labels
    if not isinstance(letters, list) or len({str(x) for x in letters}) != len(choices):
        reason = f"{column} has {len(choices)} choices and other letters for them"
        raise FaultyRecordError("bad_type", reason)
    return {str(letter): str(text) for letter, text in zip(letters, choices, strict=True)}


def _choices_column(record: Record, columns: Sequence[str]) -> str | None:
    names = (name for name in CHOICES if name not in columns)
    return next((name for name in names if not is_missing(record.get(name))), None)


def _letters(count: int) -> list[str]:
    if count > len(string.ascii_uppercase):
        return [str(number) for number in range(1, count + 1)]
    return list(string.ascii_uppercase[:count])


def answer_in(record: Record, column: str, columns: Sequence[str] = ()) -> str:
    """Return the answer in a column as a text.

    Of a list with one text, or SQuAD's `{"text": [...]}`, that text; of the number of a choice,
    counted from 0, the letter of that choice. What is a choice already stays as written.
    """
    value = record[column]
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value = value["text"]
    if isinstance(value, list):
        value = _only(value, column)
    choices = choices_in(record, columns)
    number = _index(value) if choices is not None else None
    if choices is None or number is None:
        return text_in({column: value}, column, empty=False)
    text = str(spelled(value) or value).strip()
    if text in choices.values() or text in choices:
        return text
    if not 0 <= number < len(choices):
        reason = f"{column} is {number}, and the choices are 0 to {len(choices) - 1}"
        raise FaultyRecordError("bad_type", reason)
    return list(choices)[number]


def _index(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    text = str(value).strip().removesuffix(".0")
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 10 else None


def _only(values: Sequence[Any], column: str) -> Any:
    distinct = list(
        dict.fromkeys(json.dumps(value, sort_keys=True, default=str) for value in values)
    )
    if len(distinct) != 1:
        reason = f"{column} holds {len(distinct)} different answers where one can be learned"
        kind = "bad_type" if distinct else "no_answer"
        raise FaultyRecordError(kind, reason if distinct else f"{column} holds no answer")
    return values[0]


def reasoning_in(record: Record) -> Mapping[str, str]:
    """Return the reasoning in a column, as a field of the answer's message."""
    column = next((c for c in REASONING if not is_missing(record.get(c))), None)
    return {} if column is None else {"reasoning_content": text_in(record, column)}
