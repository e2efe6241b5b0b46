"""Questions with their answers, from data in any of the usual columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from strop.core.errors import DataError
from strop.data.formats.questions import ANSWERS, CONTEXT, QUESTIONS
from strop.data.message_text import content_text
from strop.data.reading.read import examine
from strop.data.reading.sources import records
from strop.data.rows import Fault, format_lines


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A question, what answers it, and the passage that has the answer, if the data names one."""

    line: int
    question: str
    answers: tuple[str, ...]
    """Right answers; the first is the one that is trained on. None where there is no answer."""
    context: str | None = None


def question_answers(source: Any) -> tuple[list[QuestionAnswer], list[str]]:
    """Return the questions of a file, and notes about rows that are not used.

    Columns are named as elsewhere (`question`, `answer`, `context`, …); `answers` may be a list of
    texts or SQuAD's `{"text": [...]}`, an empty one a question without an answer. Other formats
    give the last question and answer of each conversation.

    Raises:
        DataError: the file cannot be read, or has no question.
    """
    items = list(records(source))
    columns = {name for _, item in items if not isinstance(item, Fault) for name in item}
    question = next((name for name in QUESTIONS if name in columns), None)
    answer = next((name for name in ("answers", *ANSWERS) if name in columns), None)
    if question is None or answer is None:
        return _of_conversations(source)
    context = next((name for name in CONTEXT if name in columns), None)
    pairs: list[QuestionAnswer] = []
    broken: list[int] = []
    for line, item in items:
        row: Mapping[str, Any] = {} if isinstance(item, Fault) else item
        text = row.get(question)
        answers = _texts(row.get(answer))
        if not isinstance(text, str) or not text.strip() or answers is None:
            broken.append(line)
            continue
        passage = row.get(context) if context else None
        pairs.append(
            QuestionAnswer(
                line, text.strip(), answers, passage if isinstance(passage, str) else None
            )
        )
    if not pairs:
        raise DataError(f"{source} has no row with a text in {question} and an answer in {answer}")
    notes = [f"{format_lines(broken)}: no question or no answer; left out"] if broken else []
    return pairs, notes


def _texts(value: Any) -> tuple[str, ...] | None:
    """Return the answers in a cell, none of them empty; None if it is of another kind."""
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, str):
        return (value.strip(),) if value.strip() else None
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(dict.fromkeys(text.strip() for text in value if text.strip()))
    return None if value is None or isinstance(value, list) else (str(value),)


def _of_conversations(source: Any) -> tuple[list[QuestionAnswer], list[str]]:
    examined = examine(source)
    pairs = []
    for row in examined.rows:
        messages = row.messages or []
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            continue
        question, answer = (content_text(message) for message in messages[-2:])
        if question.strip() and answer.strip():
            pairs.append(QuestionAnswer(row.line, question.strip(), (answer.strip(),)))
    if not pairs:
        raise DataError(
            f"{source} has no questions with answers; give columns question and answer, or chats"
        )
    lines = [fault.line for fault in examined.faults]
    return pairs, [f"{format_lines(lines)}: cannot be read; left out"] if lines else []
