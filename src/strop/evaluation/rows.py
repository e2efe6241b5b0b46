"""Rows to measure on: those that can be used, what is wrong with others, which belong together."""

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import ConfigError
from strop.data import Row
from strop.data.formats.record import Record
from strop.data.message_text import content_text
from strop.data.reading.columns import Columns
from strop.data.reading.read import Examined, examine
from strop.data.reading.sources import records
from strop.data.rows import BrokenRowsError, Fault, format_lines
from strop.evaluation.answers.choices import Question, question_of
from strop.evaluation.labels import right_answer

CLUSTER_COLUMNS = (
    *("document_id", "doc_id", "conversation_id", "dialogue_id", "session_id", "thread_id"),
    *("group_id", "context", "passage"),
)
"""Columns of which rows with an equal value depend on one another; the first that is there."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRows:
    """Rows of one source that models are measured on."""

    rows: list[Row]
    source: str
    records: list[Record]
    """What the source has for each row; empty where it is no longer at hand."""
    clusters: Tensor
    """[B] number of each row's cluster."""
    cluster_column: str | None = None
    """Column of which rows with an equal value are one cluster."""
    questions: list[Question | None] = dataclasses.field(default_factory=list)
    """The question with choices of each row, None for one without; empty where there are none."""
    notes: tuple[str, ...] = ()
    """Sentences about rows that are not used, and about clusters."""

    def drawn(self, limit: int | None, seed: int) -> "EvaluationRows":
        """Return at most `limit` of the rows, drawn with `seed`, in their order.

        Raises:
            ConfigError: `limit` is below 1.
        """
        if limit is not None and limit < 1:
            raise ConfigError(f"limit is {limit}; it must be at least 1")
        if limit is None or limit >= len(self.rows):
            return self
        return self.at(sorted(random.Random(seed).sample(range(len(self.rows)), limit)))

    def at(self, places: Sequence[int]) -> "EvaluationRows":
        """Return the rows at these places."""
        return dataclasses.replace(
            self,
            rows=[self.rows[i] for i in places],
            records=[self.records[i] for i in places] if self.records else [],
            clusters=self.clusters[list(places)],
            questions=[self.questions[i] for i in places] if self.questions else [],
        )

    def noted(self, *notes: str) -> "EvaluationRows":
        """Return the rows with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes))

    @property
    def clustered(self) -> bool:
        """True if some rows belong to one cluster."""
        return len(self.clusters.unique()) < len(self.rows)

    @property
    def sha256(self) -> str:
        """SHA-256 of what the rows say."""
        return hashlib.sha256("".join(map(content, self.rows)).encode()).hexdigest()


def rows_of(source: Any, columns: Columns, cluster: str | None) -> EvaluationRows:
    """Return the rows of a source; those that cannot be used are named in its notes.

    Args:
        source: what `strop.data.read` takes.
        columns: how its columns are read.
        cluster: the column of which rows with an equal value belong together; None takes the first
            of the usual ones that is there.

    Raises:
        DataError: the source cannot be read, or no row of it can be used.
        ConfigError: there is no column `cluster`.
    """
    if isinstance(source, Iterator):
        source = list(source)
    examined = examine(source, columns)
    if not examined.rows:
        raise BrokenRowsError(examined.name, examined.faults, examined.total)
    lines = {row.line for row in examined.rows}
    by_line = {
        n: r
        for n, r in records(source, columns.encoding)
        if n in lines and not isinstance(r, Fault)
    }
    of_rows = [by_line[row.line] for row in examined.rows]
    column = _cluster_column(of_rows, cluster)
    notes = unused(examined.faults)
    rows = EvaluationRows(
        rows=examined.rows,
        source=examined.name,
        records=of_rows,
        questions=_questions(examined, of_rows),
        clusters=_clusters(examined.rows, of_rows, column),
        cluster_column=column,
    )
    return rows.noted(*notes)


def rows_of_run_split(rows: Sequence[Row], source: str) -> EvaluationRows:
    """Return rows that a run held out."""
    return EvaluationRows(
        rows=list(rows), source=source, records=[], clusters=_clusters(rows, [], None)
    )


def unused(faults: Sequence[Fault]) -> list[str]:
    """Return a sentence for each reason why rows are not measured."""
    lines: dict[str, list[int]] = {}
    for fault in faults:
        lines.setdefault(fault.reason, []).append(fault.line)
    return [f"{format_lines(numbers)} not measured: {reason}" for reason, numbers in lines.items()]


def content(row: Row) -> str:
    """Return the SHA-256 of what a row says, wherever it stands."""
    plain = json.dumps([row.messages, row.text, row.tools], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()


def question(row: Row) -> list[dict[str, Any]] | None:
    """Return the messages before the answer of a row, all of them where it has no answer."""
    if row.messages is None:
        return None
    answered = row.messages[-1]["role"] == "assistant"
    return row.messages[:-1] if answered else row.messages


def request_of(row: Row) -> str:
    """Return what a row asks, as text: its last message before the answer."""
    messages = question(row)
    return content_text(messages[-1]) if messages else row.text or ""


def _questions(examined: Examined, of_rows: Sequence[Record]) -> list[Question | None]:
    layout = examined.layout
    if layout.format.name != "multiple_choice":
        return []
    both = zip(examined.rows, of_rows, strict=True)
    return [question_of(row.line, layout.renamed(r), right_answer(row)) for row, r in both]


def _cluster_column(of_rows: Sequence[Record], cluster: str | None) -> str | None:
    names = dict.fromkeys(name for record in of_rows for name in record)
    if cluster is None:
        return next((name for name in CLUSTER_COLUMNS if name in names), None)
    if cluster not in names:
        raise ConfigError(
            f"--cluster {cluster}: the data has no such column; it has {', '.join(names)}"
        )
    return cluster


def _clusters(rows: Sequence[Row], of_rows: Sequence[Record], column: str | None) -> Tensor:
    """Return the number of each row's cluster: rows of one value, or of one question, are one."""
    keys: list[str] = []
    for place, row in enumerate(rows):
        value = of_rows[place].get(column) if column else None
        whole_question = json.dumps(question(row), sort_keys=True) if row.messages else row.text
        keys.append(str(value) if value not in (None, "") else f"\0{whole_question}")
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys])


def cluster_note(rows: EvaluationRows) -> Iterator[str]:
    """Yield a sentence about the clusters of rows, if there are any."""
    if rows.clustered:
        column = rows.cluster_column
        by = f"have an equal {column}" if column else "ask the same"
        yield (
            f"rows that {by} depend on one another: {len(rows.clusters.unique()):,} clusters of "
            f"{len(rows.rows):,} rows, which the intervals allow for"
        )
