"""Formats of rows: the columns of each, its rows, and the format that fits a source."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from strop.core.errors import DataError
from strop.data.formats.builders import (
    PROMPTS,
    RowContent,
    from_choices,
    from_kto,
    from_labelled,
    from_messages,
    from_preference,
    from_prompt_alone,
    from_question,
    from_text,
)
from strop.data.formats.cells import FaultyRecordError
from strop.data.formats.classification import is_labelled, is_repeated
from strop.data.formats.messages import SPEAKERS
from strop.data.formats.questions import (
    ANSWERS,
    BESIDE,
    CHOICE_QUESTIONS,
    LETTERS,
    QUESTIONS,
    REASONING,
)
from strop.data.formats.record import Record, Shapes, format_columns
from strop.data.formats.survey import Survey, proposed_mapping
from strop.data.formats.tool_calls import tools_in
from strop.data.formats.turns import merged_turns, weights_of
from strop.data.rows import Fault, Row


@dataclass(frozen=True, slots=True)
class Format:
    """One way to lay out a row in columns."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """Names of each required column; the first that is there is read."""
    build: Callable[[Record, list[str], str | None], RowContent]
    """Builds a row from the record, the names of its required columns, and the instruction if any."""
    also: tuple[tuple[str, ...], ...] = ()
    """Names of each optional column; the first that is there is read."""
    suits: Callable[[Survey, Sequence[str]], bool] | None = None
    """Test of the values of the required columns; None if their names suffice."""

    def columns(self, record: Collection[str]) -> list[str] | None:
        """Return the record's name of each required column, or None if one is missing."""
        columns = [next((c for c in names if c in record), None) for names in self.needs]
        return None if None in columns else [c for c in columns if c is not None]

    def reads(self, record: Collection[str]) -> set[str] | None:
        """Return the columns of a record that this format reads, or None if one is missing."""
        if (columns := self.columns(record)) is None:
            return None
        groups = (next((c for c in names if c in record), None) for names in self.also)
        return {*columns, *(c for c in groups if c is not None)}

    def commonest(self, shapes: Shapes) -> list[str]:
        """Return the required columns as most records name them; none if no record has them."""
        counted = ((count, self.columns(shape)) for shape, count in shapes.items())
        return max(((n, c) for n, c in counted if c), default=(0, []))[1]

    def row(self, line: int, record: Record, instruction: str | None) -> Row | Fault:
        """Return the row of a record, or its fault.

        Args:
            line: where the record begins.
            record: the record.
            instruction: what precedes each text of a classification.
        """
        columns = self.columns(record)
        if columns is None:
            return Fault(line, self._missing(record), "missing_column")
        try:
            content = self.build(record, columns, instruction)
            tools = tools_in(record)
            _check_texts((content.messages, content.text, tools, content.rejected))
            messages = content.messages and merged_turns(content.messages)
            rejected = content.rejected and merged_turns(content.rejected)
            weights = weights_of(messages) if messages else None
        except FaultyRecordError as e:
            return Fault(line, str(e), e.kind)
        merged = len(messages or ()) < len(content.messages or ())
        return Row(line, messages, content.text, tools, rejected, content.label, weights, merged)

    def _missing(self, record: Record) -> str:
        missing = [
            " or ".join(names) for names in self.needs if not any(n in record for n in names)
        ]
        has = format_columns(record) if record else "none"
        return f"has no column {', '.join(missing)}, which the other rows have (its columns: {has})"

    def described(self) -> str:
        """Return the required columns, as in `prompt + completion`."""
        return " + ".join(names[0] for names in self.needs)


def _is_marked(survey: Survey, columns: Sequence[str]) -> bool:
    """Return whether the last column marks answers as desirable or not, and is no class."""
    return columns[-1] != "label" or survey["label"].marks


def _is_text(survey: Survey, columns: Sequence[str]) -> bool:
    """Return whether the first column holds plain texts only, no messages and no JSON."""
    column = survey[columns[0]]
    return column.texts == column.filled and not any(x[:1] in "[{" for x in column.distinct)


_CHATS = ("conversations", "conversation", "dialogue", "dialog", "chat", "turns", "items")
_TRANSCRIPTS = ("dialogue", "dialog", "conversation", "transcript")
_SQUAD = ("answers",)
_SUMMARIES = ("summary", "highlights", "completion", "response", "answer", "output", "target")
_SYSTEM = (("system", "system_prompt"), ("tools", "functions"), ("history",))
_AROUND = (*_SYSTEM, *BESIDE)
_KTO_LABELS = ("kto_tag", "label")
_TEXTS = (
    *("text", "sentence", "content", "headline", "review", "comment", "tweet", "utterance"),
    *("document", "article", "title"),
)
_FIRSTS = ("sentence1", "premise", "text1", "question1")
_SECONDS = ("sentence2", "hypothesis", "text2", "question2")
_LABELS = ("label", "category", "class", "sentiment", "intent", "emotion", "topic", "labels")
RATINGS = ("stars", "rating")
"""Columns that label a text; with other columns, notes about the row."""
_LABEL_TEXTS = ("label_text", "label_name")
_NUMBERED = (("label", "labels", "label_id"),)
_BESIDE_LABELLED = (("instruction",), *_SYSTEM, REASONING)

FORMATS = (
    Format(
        "preference",
        (("chosen", "chosen_messages"), ("rejected", "rejected_messages")),
        from_preference,
        (PROMPTS, *_AROUND),
    ),
    Format(
        "kto",
        (QUESTIONS, ANSWERS, _KTO_LABELS),
        from_kto,
        (*_AROUND, REASONING),
        _is_marked,
    ),
    Format("kto", (("messages", *_CHATS), _KTO_LABELS), from_kto, _SYSTEM, _is_marked),
    Format("messages", (("messages",),), from_messages, _SYSTEM),
    Format(
        "prompt_completion",
        (_TRANSCRIPTS, ("summary", "highlights")),
        from_question,
        (*_AROUND, REASONING),
        _is_text,
    ),
    Format("conversations", (_CHATS,), from_messages, _SYSTEM),
    Format(
        "multiple_choice",
        (CHOICE_QUESTIONS, BESIDE[-1], (*ANSWERS, *LETTERS)),
        from_choices,
        (*_AROUND, REASONING, ("answer_idx", "answer_index")),
    ),
    Format(
        "instruction",
        (("instruction",), ("output", *ANSWERS)),
        from_question,
        (*_AROUND, REASONING),
    ),
    Format("prompt_completion", (("prompt",), ANSWERS), from_question, (*_AROUND, REASONING)),
    Format(
        "question_answer",
        (("question", "query", "problem"), (*ANSWERS, *_SQUAD)),
        from_question,
        (*_AROUND, REASONING),
    ),
    Format(
        "input_output",
        (("input",), ("output", "ideal", "target", "response", "answer", "completion")),
        from_question,
        (*_AROUND, REASONING),
    ),
    Format(
        "classification",
        (_FIRSTS, _SECONDS, (*_LABEL_TEXTS, *_LABELS)),
        from_labelled,
        (*_BESIDE_LABELLED, *_NUMBERED),
        is_labelled,
    ),
    Format(
        "classification",
        (_TEXTS, _LABEL_TEXTS),
        from_labelled,
        (*_BESIDE_LABELLED, *_NUMBERED),
        is_labelled,
    ),
    Format("classification", (_TEXTS, _LABELS), from_labelled, _BESIDE_LABELLED, is_labelled),
    Format(
        "classification",
        (_TEXTS, ("target", *RATINGS)),
        from_labelled,
        _BESIDE_LABELLED,
        is_repeated,
    ),
    Format(
        "prompt_completion",
        (_TEXTS, (*_SUMMARIES, *_LABELS)),
        from_question,
        (*_AROUND, REASONING),
    ),
    Format("text", (("text", "content"),), from_text),
    Format("prompt", (("prompt",),), from_prompt_alone, _AROUND),
)
"""Formats, in the order of precedence where several fit a row."""

_DEEPEST = 64
"""Levels of nesting allowed in a row."""

KNOWN_COLUMNS = frozenset(name for f in FORMATS for names in (*f.needs, *f.also) for name in names)


def format_of(shapes: Shapes, survey: Survey, name: str) -> tuple[Format, list[str]]:
    """Return the format that most records fit, and its required columns as most of them name them.

    Args:
        shapes: number of records with each tuple of columns.
        survey: of the values of the columns.
        name: of the source.

    Raises:
        DataError: no format fits.
    """

    def fits(layout: Format) -> int:
        if layout.suits is not None:
            columns = layout.commonest(shapes)
            if not columns or not layout.suits(survey, columns):
                return 0
        return sum(count for shape, count in shapes.items() if layout.columns(shape) is not None)

    best = max(FORMATS, key=fits)
    if not fits(best):
        columns = {column for shape in shapes for column in shape}
        if not columns:
            raise DataError(f"{name} has rows without anything in them: they have no columns")
        known = "; ".join(dict.fromkeys(layout.described() for layout in FORMATS))
        commonest = max(shapes.items(), key=lambda item: item[1])[0]
        raise DataError(
            f"{name} has the columns {format_columns(columns)}, which are no known format. Known are: "
            f"{known}. Rename the columns, or say what they are; by their values it would be "
            f"--map {proposed_mapping(commonest, survey)}"
        )
    if best.name == "text" and _is_message_each(shapes, survey):
        raise DataError(
            f"{name} has one message a row (columns role and content or text), and nothing says "
            "which belong together; put the messages of each conversation into one row, as "
            '{"messages": [{"role": ..., "content": ...}, ...]}, or --ignore-columns role if each '
            "is a text of its own"
        )
    return best, best.commonest(shapes)


def _is_message_each(shapes: Shapes, survey: Survey) -> bool:
    """Return whether each row is a message of a conversation, by a column with roles of speakers."""
    beside = any({"role", text} <= set(shape) for shape in shapes for text in ("content", "text"))
    return beside and all(role.lower() in SPEAKERS for role in survey["role"].distinct)


def _check_texts(value: Any, depth: int = 0) -> None:
    """Raise FaultyRecordError for lone surrogates, which no tokenizer can read, and deep nesting."""
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
