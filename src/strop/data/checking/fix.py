"""Cleaned copy of a data set, with a list of every change."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.core.files import written_whole
from strop.data.checking.content_checks import repaired
from strop.data.checking.turn_checks import Answers, is_prompt_only
from strop.data.message_text import content_text
from strop.data.reading.columns import Columns
from strop.data.reading.encodings import encoding_of
from strop.data.reading.files import UTF8
from strop.data.reading.read import examine, source_name
from strop.data.rows import Fault, Message, Row


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one row."""

    line: int
    """Line of the row in the source."""
    action: str
    """`dropped` or `changed`."""
    reason: str
    """Reason, and for a change the text before it."""
    kind: str = ""
    """Kind of the finding that it mends, such as `duplicates`."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What `clean` did."""

    rows: int
    """Number of rows of the source."""
    left: int
    """Number of rows written."""
    changes: list[Change]

    @property
    def sentence(self) -> str:
        """What was done, as in `200 → 144 rows: 54 duplicates, 2 empty, 69 labels respelt`."""
        counts: Counter[tuple[bool, str]] = Counter()
        for _, action, kind in {(c.line, c.action, c.kind) for c in self.changes}:
            if kind != _COLUMN:
                counts[action != "dropped", WORDS.get(kind, kind.replace("_", " "))] += 1
        columns = sum(change.kind == _COLUMN for change in self.changes)
        counts[True, WORDS[_COLUMN]] += columns
        ordered = sorted(+counts, key=lambda item: (item[0], -counts[item], item[1]))
        done = ", ".join(f"{counts[item]:,} {_counted(item[1], counts[item])}" for item in ordered)
        return f"{self.rows:,} → {self.left:,} rows: {done or 'nothing to mend'}"


_COLUMN = "unread_content"
WORDS = {
    "duplicates": "duplicates",
    "empty_answers": "empty",
    "empty_text": "empty",
    "empty_prompts": "without a question",
    "no_answer": "without an answer",
    "not_utf8": "not UTF-8",
    "bad_json": "not usable JSON",
    "bad_csv": "with more or fewer fields than columns",
    "bad_type": "of another type",
    "missing_column": "without a column",
    _COLUMN: "columns left out",
    "label_variants": "labels respelt",
    "mojibake": "texts repaired",
}
"""Kind of finding -> words for rows that were dropped or changed for it."""


def _counted(word: str, count: int) -> str:
    first, space, rest = word.partition(" ")
    plural = first in ("duplicates", "columns", "labels", "texts")
    return f"{first[:-1]}{space}{rest}" if plural and count == 1 else word


def fix(source: Any, out: Path, *, columns: Columns | None = None) -> list[Change]:
    """Write the usable rows of `source` to `out` as JSONL, cleaned, and list every change.

    See `clean`.
    """
    return clean(source, out, columns=columns).changes


def clean(source: Any, out: Path, *, columns: Columns | None = None) -> Cleaned:
    """Write the usable rows of `source` to `out` as JSONL, cleaned.

    Rows that cannot be used are dropped, as are those that are equal to an earlier row to the
    letter, and those of which every question is empty. Broken characters are set right, control
    characters taken out, and an answer spelt in several ways gets its most frequent spelling.
    Nothing else is touched. The changes are written beside it as `<name>.changes.jsonl`.

    Raises:
        DataError: the source cannot be read at all, nothing of it can be used, or `out` would
            overwrite it or is named as another kind of file.
    """
    if out.suffix != ".jsonl":
        raise DataError(f"{out} is written as JSONL; give it a name that ends in .jsonl")
    if isinstance(source, (str, Path)) and out.resolve() == Path(source).resolve():
        raise DataError(f"{out} is the source itself; give another name for the cleaned file")
    examined = examine(source, columns)
    rows, faults, total = examined.rows, examined.faults, examined.total
    _refuse_undecoded(source, faults)
    changes = [Change(fault.line, "dropped", fault.reason, fault.kind) for fault in faults]
    for column, value in examined.layout.unread.items():
        reason = f"the column {column} ({value!r}), which is not read, is left out of every row"
        changes.append(Change(rows[0].line if rows else 1, "dropped", reason, _COLUMN))
    spelling = _spellings(rows)
    usual = None if columns is not None and columns.instruction else examined.layout.instruction
    first_of: dict[str, int] = {}
    for row in rows:
        if _is_unasked(row):
            changes.append(Change(row.line, "dropped", "its question is empty", "empty_prompts"))
            continue
        record, reasons = _cleaned(row, spelling)
        record = _labelled(record, usual)
        written = json.dumps(record, ensure_ascii=False)
        if written in first_of:
            changes.append(
                Change(row.line, "dropped", f"repeats line {first_of[written]}", "duplicates")
            )
            continue
        first_of[written] = row.line
        changes += [Change(row.line, "changed", reason, kind) for kind, reason in reasons]
    if not first_of:
        raise DataError(f"none of the {total} rows of {source_name(source)} can be kept")
    changes.sort(key=lambda change: change.line)
    _write(out, first_of)
    listed = [json.dumps(asdict(change), ensure_ascii=False) for change in changes]
    _write(out.with_name(out.stem + ".changes.jsonl"), listed)
    return Cleaned(total, len(first_of), changes)


def _refuse_undecoded(source: Any, faults: Iterable[Fault]) -> None:
    """Raise DataError if rows would be dropped for an encoding that all of the file fits."""
    undecoded = [fault for fault in faults if fault.kind == "not_utf8"]
    if not undecoded or not isinstance(source, (str, Path)):
        return
    if (encoding := encoding_of(Path(source))) != UTF8:
        count = "1 row is" if len(undecoded) == 1 else f"{len(undecoded):,} rows are"
        raise DataError(
            f"{source}: {count} not UTF-8, but all of the file fits {encoding}; name its encoding, "
            f"as in --encoding {encoding}, and nothing is dropped for it"
        )


def _write(path: Path, lines: Iterable[str]) -> None:
    with written_whole(path) as scratch:
        scratch.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _spellings(rows: list[Row]) -> dict[str, str]:
    answers = Answers()
    for row in rows:
        answers.add(row)
    labels = answers.labels()
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for label, count in (labels or {}).items():
        groups[label.lower().strip(" .!\"'")][label] = count
    return {label: group.most_common(1)[0][0] for group in groups.values() for label in group}


Reasons = list[tuple[str, str]]
"""Kinds of the findings that changes mend, and reasons."""


def _is_unasked(row: Row) -> bool:
    """Return whether a row has questions, all of them empty."""
    asking = [m for m in row.messages or () if m["role"] in ("user", "tool")]
    return bool(asking) and not any(content_text(m).strip() for m in asking)


def _cleaned(row: Row, spelling: Mapping[str, str]) -> tuple[dict[str, Any], Reasons]:
    """Return the record to write for a row, and the reasons of its changes."""
    reasons: Reasons = []
    if row.messages is None:
        return {"text": _text(row.text or "", "the text", reasons)}, reasons
    messages = _repaired(row.messages, "message", reasons)
    rejected = row.rejected and _repaired(row.rejected, "rejected message", reasons)
    last = messages[-1]
    spelt = spelling.get(last["content"].strip(), last["content"])
    if last["role"] == "assistant" and spelt != last["content"]:
        reason = f"the answer {last['content']!r} is spelt {spelt!r}"
        reasons.append(("label_variants", reason))
        last["content"] = spelt
    for message, weight in zip(messages, row.weights or (), strict=False):
        message["weight"] = weight
    return dict(_record(row, messages, rejected)), reasons


def _labelled(record: dict[str, Any], usual: str | None) -> dict[str, Any]:
    """Return the record of a labelled text with its columns `text` and `label`.

    Its instruction names the labels of all rows, so that it is made again when the cleaned rows are
    read, of the labels that are left.

    Args:
        record: of a row that may have been one.
        usual: the instruction that strop made for the data; None where it made none.
    """
    messages = record.get("messages")
    if usual is None or not messages or len(messages) != 2 or record.keys() != {"messages"}:
        return record
    (question, answer), lead = messages, f"{usual}\n\n"
    plain = all(message.keys() == {"role", "content"} for message in messages)
    if not plain or not question["content"].startswith(lead):
        return record
    return {"text": question["content"].removeprefix(lead), "label": answer["content"]}


def _repaired(messages: list[Message], name: str, reasons: Reasons) -> list[Message]:
    copies = [dict(m) for m in messages]
    for number, message in enumerate(copies, 1):
        for key in ("content", "reasoning_content"):
            if message.get(key):
                message[key] = _text(message[key], f"{name} {number}", reasons)
    return copies


def _record(
    row: Row, messages: list[Message], rejected: list[Message] | None
) -> Iterator[tuple[str, Any]]:
    if row.rejected is not None:
        yield from (("chosen", messages), ("rejected", rejected))
    elif is_prompt_only(row):
        yield "prompt", messages
    else:
        yield "messages", messages
    if row.label is not None:
        yield "label", row.label
    if row.tools is not None:
        yield "tools", row.tools


def _text(text: str, where: str, reasons: Reasons) -> str:
    clean = repaired(text)
    if clean != text:
        at = next((i for i, (a, b) in enumerate(zip(text, clean, strict=False)) if a != b), 0)
        reason = f"{where}: {text[at : at + 12]!r} became {clean[at : at + 12]!r}"
        reasons.append(("mojibake", reason))
    return clean
