"""Writes a cleaned copy of data and lists every change."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.core.files import written_whole
from strop.data.contents import repaired
from strop.data.likeness import digest, text_of_row
from strop.data.reading import examine
from strop.data.rows import Row
from strop.data.sources import source_name
from strop.data.turns import Answers


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to one row."""

    line: int
    """Its line in the source."""
    action: str
    """`dropped` or `changed`."""
    reason: str
    """Why, and for a change what it was before."""


def fix(source: Any, out: Path, *, mapping: Mapping[str, str] | None = None) -> list[Change]:
    """Write the usable rows of `source` to `out` as JSONL, cleaned, and list every change.

    Rows that cannot be used are dropped, as are repetitions of an earlier row. Broken characters
    are set right, control characters taken out, and an answer spelt in several ways gets its most
    frequent spelling. Nothing else is touched. The list is written beside it as
    `<name>.changes.jsonl`.

    Raises:
        DataError: the source cannot be read at all, nothing of it can be used, or `out` would
            overwrite it.
    """
    if isinstance(source, (str, Path)) and out.resolve() == Path(source).resolve():
        raise DataError(f"{out} is the source itself; give another name for the cleaned file")
    rows, faults, _, total = examine(source, mapping)
    changes = [Change(fault.line, "dropped", fault.reason) for fault in faults]
    spelling = _spellings(rows)
    first_of: dict[bytes, int] = {}
    kept: list[str] = []
    for row in rows:
        record, reasons = _cleaned(row, spelling)
        key = digest(text_of_row(row))
        if key in first_of:
            changes.append(Change(row.line, "dropped", f"repeats line {first_of[key]}"))
            continue
        first_of[key] = row.line
        changes += [Change(row.line, "changed", reason) for reason in reasons]
        kept.append(json.dumps(record, ensure_ascii=False))
    if not kept:
        raise DataError(f"none of the {total} rows of {source_name(source)} can be kept")
    changes.sort(key=lambda change: change.line)
    _write(out, kept)
    listed = [json.dumps(asdict(change), ensure_ascii=False) for change in changes]
    _write(out.with_name(out.stem + ".changes.jsonl"), listed)
    return changes


def _write(path: Path, lines: list[str]) -> None:
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


def _cleaned(row: Row, spelling: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the record to write for a row, and what was changed."""
    reasons: list[str] = []
    if row.messages is None:
        return {"text": _text(row.text or "", "the text", reasons)}, reasons
    messages = [dict(m) for m in row.messages]
    for number, message in enumerate(messages, 1):
        message["content"] = _text(message["content"], f"message {number}", reasons)
    last = messages[-1]
    wanted = spelling.get(last["content"].strip(), last["content"])
    if last["role"] == "assistant" and wanted != last["content"]:
        reasons.append(f"the answer {last['content']!r} is spelt {wanted!r}")
        last["content"] = wanted
    for message, weight in zip(messages, row.weights or (), strict=False):
        message["weight"] = weight
    return dict(_record(row, messages)), reasons


def _record(row: Row, messages: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    if row.rejected is None:
        yield "messages", messages
    else:
        yield "chosen", messages
        yield "rejected", row.rejected
    if row.label is not None:
        yield "label", row.label
    if row.tools is not None:
        yield "tools", row.tools


def _text(text: str, where: str, reasons: list[str]) -> str:
    clean = repaired(text)
    if clean != text:
        at = next((i for i, (a, b) in enumerate(zip(text, clean, strict=False)) if a != b), 0)
        reasons.append(f"{where}: {text[at : at + 12]!r} became {clean[at : at + 12]!r}")
    return clean
