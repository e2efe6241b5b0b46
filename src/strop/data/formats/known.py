"""The formats of rows: which columns each has, and how a record becomes a row."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from strop.data.formats.classification import is_labelled, is_repeated, question_and_label
from strop.data.formats.messages import (
    FaultyRecordError,
    conversation,
    listed,
    merged_turns,
    text_in,
    tools_in,
    weights_of,
)
from strop.data.formats.questions import (
    ANSWERS,
    BESIDE,
    CHOICE_QUESTIONS,
    LETTERS,
    QUESTIONS,
    REASONING,
    answer_in,
    beside,
    reasoning_in,
    with_context,
)
from strop.data.formats.record import Record, is_missing, spoken_type
from strop.data.formats.survey import Survey
from strop.data.formats.transcripts import alternating, calls_in, transcript
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
    build: Callable[[Record, list[str], str | None], Made]
    """Makes the row out of the record, the found column names, and the instruction if any."""
    also: tuple[tuple[str, ...], ...] = ()
    """Columns it reads where they are there, of each group the first."""
    suits: Callable[[Survey, Sequence[str]], bool] | None = None
    """Whether the found columns hold what it needs; None where their names tell."""

    def columns(self, record: Collection[str]) -> list[str] | None:
        """Return the record's column for each need, or None if one is missing."""
        found = [next((c for c in names if c in record), None) for names in self.needs]
        return None if None in found else [c for c in found if c is not None]

    def reads(self, record: Collection[str]) -> set[str]:
        """Return the columns of a record of this format that are read."""
        groups = (next((c for c in names if c in record), None) for names in self.also)
        return {*(self.columns(record) or ()), *(c for c in groups if c is not None)}

    def spoken(self) -> str:
        """Return the columns in words."""
        return " + ".join(names[0] for names in self.needs)


def _from_messages(record: Record, columns: list[str], told: str | None) -> Made:
    return Made(conversation(alternating(listed(record[columns[0]], columns[0])), record))


def _turns(record: Record, column: str, role: str) -> list[Any]:
    """Return the messages in a column that holds a text or messages."""
    value = record[column]
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    return [{"role": role, "content": text_in(record, column, empty=role == "user")}]


def _question(record: Record, column: str, columns: Sequence[str]) -> list[Any]:
    """Return the messages of a question and of what stands beside it."""
    if not isinstance(record[column], (list, dict)):
        question = with_context(record, text_in(record, column), columns)
        return [{"role": "user", "content": question}]
    if more := beside(record, columns):
        raise FaultyRecordError(
            "bad_type",
            f"{', '.join(more)} stands beside a {column} of messages; write it into a message",
        )
    return _turns(record, column, "user")


def _from_question(record: Record, columns: list[str], told: str | None) -> Made:
    """Make a row of a question and an answer, each a text or messages."""
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
        messages[last] = {**thought, **messages[last]}
    return Made(messages)


def _is_messages(value: Any) -> bool:
    if isinstance(value, dict):
        return any(key in value for key in ("role", "from", "content"))
    return isinstance(value, list) and any(isinstance(part, dict) for part in value)


def _from_choices(record: Record, columns: list[str], told: str | None) -> Made:
    return _from_question(record, [columns[0], columns[2]], told)


def _from_prompt_alone(record: Record, columns: list[str], told: str | None) -> Made:
    column = columns[0]
    if isinstance(record[column], list):
        listed(record[column], column)
    else:
        text_in(record, column, empty=False)
    return Made(conversation(_question(record, column, columns), record, answered=False))


def _from_text(record: Record, columns: list[str], told: str | None) -> Made:
    return Made(text=text_in(record, columns[0], empty=False))


def _from_labelled(record: Record, columns: list[str], told: str | None) -> Made:
    return Made(conversation(question_and_label(record, columns, told), record))


def _from_preference(record: Record, columns: list[str], told: str | None) -> Made:
    before: list[Any] = []
    if column := next((c for c in _PROMPTS if not is_missing(record.get(c))), None):
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


def _pair(record: Record, better: list[Any], worse: list[Any]) -> Made:
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


def _from_kto(record: Record, columns: list[str], told: str | None) -> Made:
    build = _from_question if len(columns) == 3 else _from_messages
    made = build(record, columns[:-1], told)
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


def _is_marked(survey: Survey, columns: Sequence[str]) -> bool:
    """Whether the last column marks answers as wanted or not, and is no class of theirs."""
    return columns[-1] != "label" or survey["label"].marks


def _is_text(survey: Survey, columns: Sequence[str]) -> bool:
    """Whether the first column holds plain texts, and no messages, in JSON either."""
    column = survey[columns[0]]
    return column.texts == column.filled and not any(x[:1] in "[{" for x in column.distinct)


_PROMPTS = (*QUESTIONS, "messages", "conversations")
_CHATS = ("conversations", "conversation", "dialogue", "dialog", "chat", "turns", "items")
_TRANSCRIPTS = ("dialogue", "dialog", "conversation", "transcript")
_SQUAD = ("answers",)
_SUMMARIES = ("summary", "highlights", "completion", "response", "answer", "output", "target")
_SYSTEM = (("system", "system_prompt"), ("tools", "functions"), ("history",))
_AROUND = (*_SYSTEM, *BESIDE)
_WANTED = ("kto_tag", "label")
_TEXTS = (
    *("text", "sentence", "content", "headline", "review", "comment", "tweet", "utterance"),
    *("document", "article", "title"),
)
_FIRSTS = ("sentence1", "premise", "text1", "question1")
_SECONDS = ("sentence2", "hypothesis", "text2", "question2")
_LABELS = ("label", "category", "class", "sentiment", "intent", "emotion", "topic", "labels")
RATINGS = ("stars", "rating")
"""Columns that label a text; beside anything else a note about the row."""
_LABEL_TEXTS = ("label_text", "label_name")
_NUMBERED = (("label", "labels", "label_id"),)
_OWN = (("instruction",), *_SYSTEM, REASONING)

FORMATS = (
    Format(
        "preference",
        (("chosen", "chosen_messages"), ("rejected", "rejected_messages")),
        _from_preference,
        (_PROMPTS, *_AROUND),
    ),
    Format(
        "kto",
        (QUESTIONS, ANSWERS, _WANTED),
        _from_kto,
        (*_AROUND, REASONING),
        _is_marked,
    ),
    Format("kto", (("messages", *_CHATS), _WANTED), _from_kto, _SYSTEM, _is_marked),
    Format("messages", (("messages",),), _from_messages, _SYSTEM),
    Format(
        "prompt_completion",
        (_TRANSCRIPTS, ("summary", "highlights")),
        _from_question,
        (*_AROUND, REASONING),
        _is_text,
    ),
    Format("conversations", (_CHATS,), _from_messages, _SYSTEM),
    Format(
        "multiple_choice",
        (CHOICE_QUESTIONS, BESIDE[-1], (*ANSWERS, *LETTERS)),
        _from_choices,
        (*_AROUND, REASONING, ("answer_idx", "answer_index")),
    ),
    Format(
        "instruction",
        (("instruction",), ("output", *ANSWERS)),
        _from_question,
        (*_AROUND, REASONING),
    ),
    Format("prompt_completion", (("prompt",), ANSWERS), _from_question, (*_AROUND, REASONING)),
    Format(
        "question_answer",
        (("question", "query", "problem"), (*ANSWERS, *_SQUAD)),
        _from_question,
        (*_AROUND, REASONING),
    ),
    Format(
        "input_output",
        (("input",), ("output", "ideal", "target", "response", "answer", "completion")),
        _from_question,
        (*_AROUND, REASONING),
    ),
    Format(
        "classification",
        (_FIRSTS, _SECONDS, (*_LABEL_TEXTS, *_LABELS)),
        _from_labelled,
        (*_OWN, *_NUMBERED),
        is_labelled,
    ),
    Format(
        "classification", (_TEXTS, _LABEL_TEXTS), _from_labelled, (*_OWN, *_NUMBERED), is_labelled
    ),
    Format("classification", (_TEXTS, _LABELS), _from_labelled, _OWN, is_labelled),
    Format("classification", (_TEXTS, ("target", *RATINGS)), _from_labelled, _OWN, is_repeated),
    Format(
        "prompt_completion",
        (_TEXTS, (*_SUMMARIES, *_LABELS)),
        _from_question,
        (*_AROUND, REASONING),
    ),
    Format("text", (("text", "content"),), _from_text),
    Format("prompt", (("prompt",),), _from_prompt_alone, _AROUND),
)
"""Every format, the one that wins where several fit a row first."""

_DEEPEST = 64
"""Levels that lists and objects of a row may be nested."""

KNOWN_COLUMNS = frozenset(name for f in FORMATS for names in (*f.needs, *f.also) for name in names)


def row_of(
    line: int, record: Record, layout: Format, columns: list[str], told: str | None = None
) -> Row | Fault:
    """Return the record as a row, or why it is none; `told` is the instruction of its format."""
    try:
        made = layout.build(record, columns, told)
        tools = tools_in(record)
        _check_texts((made.messages, made.text, tools, made.rejected))
        messages = made.messages and merged_turns(made.messages)
        rejected = made.rejected and merged_turns(made.rejected)
        merged = len(messages or ()) < len(made.messages or ())
        weights = weights_of(messages) if messages else None
        return Row(line, messages, made.text, tools, rejected, made.label, weights, merged)
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
