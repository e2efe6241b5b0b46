"""Check of a data set: faults, findings, tokens and lengths."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from strop.core.progress import Progress, silent
from strop.data.checking.content_checks import PATTERNS, patterns_in
from strop.data.checking.languages import language
from strop.data.checking.near_duplicates import NearDuplicates
from strop.data.checking.report import Finding, Report, excerpt, finding, ordered
from strop.data.checking.token_checks import TokenCheck
from strop.data.checking.turn_checks import Answers, is_prompt_only, role_problems
from strop.data.encoding.supervision import EVERYTHING, Supervision
from strop.data.message_text import content_text, full_text
from strop.data.reading.columns import Columns, format_values
from strop.data.reading.layout import Layout
from strop.data.reading.read import examine, source_name
from strop.data.rows import BrokenRowsError, Fault, Row

_STEP = 1000


@dataclass(slots=True)
class _Occurrences:
    """Lines of the rows of one finding, and one example."""

    lines: list[int] = field(default_factory=list)
    example: str = ""


def check(
    source: Any,
    tokenizer: Any = None,
    *,
    max_length: int | None = None,
    held_out: Any = None,
    columns: Columns | None = None,
    supervision: Supervision = EVERYTHING,
    progress: Progress = silent,
) -> Report:
    """Return a report on data: what is wrong with it, what is supervised, and its lengths.

    Args:
        source: what `read` takes.
        tokenizer: the model's tokenizer; None leaves out the checks of tokens.
        max_length: the length at which training would cut rows.
        held_out: the test data, to find rows that are in both.
        columns: how its columns are read; None for their own names.
        supervision: which parts of the answers are supervised.
        progress: called with the stage, the rows done and all rows.

    Raises:
        DataError: the source cannot be read at all.
    """
    progress("reading", 0, 0)
    columns = columns or Columns()
    rows, faults, layout, total = _examined(source, columns)
    findings = [*_of_faults(faults)]
    if rows:
        findings += _of_columns(layout)
        duplicates = NearDuplicates()
        languages: Counter[str] = Counter()
        findings += _of_rows(rows, duplicates, languages, progress)
        findings += _of_merged(rows)
        findings += _of_duplicates(duplicates)
        findings += _of_languages(languages, len(rows))
        if held_out is not None:
            findings += _of_leaks(duplicates, held_out, dataclasses.replace(columns, strict=False))
    tokens = None
    if rows and tokenizer is not None:
        tokens = TokenCheck(tokenizer, max_length, supervision)
        findings += tokens.run(rows, lambda done: progress("tokens", done, len(rows)))
    lengths = tokens.lengths() if tokens else None
    usable = len(rows) - (len(tokens.unusable) if tokens else 0)
    return Report(
        source_name(source),
        layout.format.name if layout else "",
        total,
        usable,
        dict(layout.columns) if layout else {},
        ordered(findings),
        lengths,
        dict(languages) if rows else {},
    )


def content_findings(rows: list[Row]) -> dict[str, int]:
    """Return the errors and warnings about what rows say: the number of rows by kind."""
    duplicates = NearDuplicates()
    findings = [*_of_rows(rows, duplicates, Counter(), silent), *_of_duplicates(duplicates)]
    return {f.kind: len(f.rows) for f in ordered(findings) if f.severity != "info"}


def _examined(source: Any, columns: Columns) -> tuple[list[Row], list[Fault], Layout | None, int]:
    """Return rows, faults, layout and number of rows, also where no row can be read."""
    try:
        examined = examine(source, columns)
    except BrokenRowsError as e:
        return [], e.faults, None, e.total
    return examined.rows, examined.faults, examined.layout, examined.total


def _of_columns(layout: Layout | None) -> Iterator[Finding]:
    if layout is None:
        return
    name = layout.format.name
    if layout.unread:
        message = f"the format {name} does not read the columns {format_values(layout.unread)}"
        yield finding("unread_content", [], message)
    if layout.unused:
        message = f"the format {name} does not read the columns {_first(layout.unused)}"
        yield finding("unused_columns", [], message)
    for sentence in layout.decoded:
        yield finding("decoded", [], sentence)
    for note in layout.notes:
        yield finding("columns_understood", [], note)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(str, names[:8])) + more


def _of_faults(faults: list[Fault]) -> Iterator[Finding]:
    kinds: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        kinds[fault.kind].append(fault)
    for kind, same in kinds.items():
        reasons = list(dict.fromkeys(fault.reason for fault in same))
        more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        lines = sorted({fault.line for fault in same})
        yield finding(kind, lines, reasons[0] + more, reasons[0])


def _of_rows(
    rows: list[Row], duplicates: NearDuplicates, languages: Counter[str], progress: Progress
) -> Iterator[Finding]:
    patterns: dict[str, _Occurrences] = defaultdict(_Occurrences)
    orders: dict[str, _Occurrences] = defaultdict(_Occurrences)
    promptless = _Occurrences()
    mixed = _Occurrences()
    answers = Answers()
    for done, row in enumerate(rows, 1):
        for text, answer in _texts(row):
            for pattern, (start, end) in patterns_in(text, answer):
                rows_with = patterns[pattern.kind]
                if not rows_with.lines or rows_with.lines[-1] != row.line:
                    rows_with.lines.append(row.line)
                rows_with.example = rows_with.example or excerpt(text, start, end)
        for problem in role_problems(row):
            orders[problem].lines.append(row.line)
        if row.messages and not any(
            m["role"] in ("user", "tool") and content_text(m).strip() for m in row.messages
        ):
            promptless.lines.append(row.line)
        _add_language(row, languages, mixed)
        answers.add(row)
        duplicates.add(row)
        if done % _STEP == 0 or done == len(rows):
            progress("contents", done, len(rows))
    for pattern in PATTERNS:
        if pattern.kind in patterns:
            lines = patterns[pattern.kind].lines
            message = f"{_rows(len(lines))} {pattern.message}"
            yield finding(pattern.kind, lines, message, patterns[pattern.kind].example)
    for problem, occurrences in orders.items():
        message = f"in {_rows(len(occurrences.lines))} {problem}"
        yield finding("roles_out_of_order", occurrences.lines, message)
    if promptless.lines:
        message = f"{_rows(len(promptless.lines))} have an answer but nothing that asks for it"
        yield finding("empty_prompts", promptless.lines, message)
    if mixed.lines:
        message = f"{_rows(len(mixed.lines))} answer in another language than they are asked in"
        yield finding("answers_in_another_language", mixed.lines, message)
    if alone := [row.line for row in rows if is_prompt_only(row)]:
        message = f"{_rows(len(alone))} ask and have no answer"
        yield finding("prompts_alone", alone, message)
    if undesirable := [row.line for row in rows if row.label is False]:
        message = f"{_rows(len(undesirable))} have an answer that is marked as not wanted"
        yield finding("unwanted_answers", undesirable, message)
    if pairs := sum(row.rejected is not None for row in rows):
        message = f"{_rows(pairs)} have a rejected answer too, from which imitation learns nothing"
        yield finding("preference_pairs", [], message)
    yield from answers.findings()


def _of_merged(rows: list[Row]) -> Iterator[Finding]:
    if merged := [row.line for row in rows if row.merged]:
        message = f"{_rows(len(merged))} have an answer in several messages, which are taken as one"
        yield finding("merged_turns", merged, message)


def _texts(row: Row) -> Iterator[tuple[str, bool]]:
    if row.messages is None:
        yield row.text or "", False
    for message in row.messages or ():
        yield full_text(message), message["role"] == "assistant"
    if row.rejected:
        yield full_text(row.rejected[-1]), False


def _add_language(row: Row, languages: Counter[str], mixed: _Occurrences) -> None:
    if row.messages is None:
        detected = [(language(row.text or ""), False)]
    else:
        detected = [(language(content_text(m)), m["role"] == "assistant") for m in row.messages]
    last = detected[-1][0]
    if last is not None:
        languages[last] += 1
    before = {name for name, answer in detected if name is not None and not answer}
    if row.messages and last is not None and before and last not in before:
        mixed.lines.append(row.line)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _of_languages(languages: Counter[str], total: int) -> Iterator[Finding]:
    share = 0.01 * languages.total()
    several = {name: n for name, n in languages.items() if n >= 5 and n >= share}
    if len(several) > 1 and total >= 20:
        shares = ", ".join(f"{n:,} {name}" for name, n in languages.most_common(6))
        yield finding(
            "mixed_languages",
            [],
            f"the rows are in several languages: {shares}",
        )


def _of_duplicates(duplicates: NearDuplicates) -> Iterator[Finding]:
    if equal := duplicates.equal():
        extra = sorted(line for lines in equal for line in lines[1:])
        yield finding(
            "duplicates",
            extra,
            f"{_rows(len(extra))} repeat an earlier one word for word",
            f"lines {equal[0][0]} and {equal[0][1]}",
        )
    if not duplicates.sketching:
        yield finding(
            "near_duplicates_not_checked",
            [],
            "rows that are nearly equal were not looked for, as rensa is not installed",
        )
    if near := duplicates.nearly_equal():
        extra = sorted({line for lines in near for line in lines[1:]})
        yield finding(
            "near_duplicates",
            extra,
            f"{_rows(len(extra))} are nearly equal to another one",
            f"lines {near[0][0]} and {near[0][1]}",
        )
    if differing := duplicates.contradicting():
        lines = sorted(line for group in differing for line in group)
        yield finding(
            "contradictory_answers",
            lines,
            f"{len(differing):,} questions are answered in more than one way",
            f"lines {differing[0][0]} and {differing[0][1]}",
        )


def _of_leaks(duplicates: NearDuplicates, held_out: Any, columns: Columns) -> Iterator[Finding]:
    others = NearDuplicates()
    for row in examine(held_out, columns).rows:
        others.add(row)
    shared = sorted(
        line for key, lines in duplicates.whole.items() if key in others.whole for line in lines
    )
    if shared:
        yield finding(
            "leak",
            shared,
            f"{_rows(len(shared))} stand in the held-out part as well, so the test tells nothing",
        )
    near = sorted({lines[0] for lines in duplicates.nearly_equal(others)} - set(shared))
    if near:
        yield finding(
            "near_leak",
            near,
            f"{_rows(len(near))} are nearly equal to one of the held-out part",
        )
