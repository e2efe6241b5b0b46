"""Facts as questions in several wordings, of which some are not trained on."""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.core.errors import DataError
from strop.data.formats.questions import ANSWERS, QUESTIONS
from strop.data.reading.sources import records
from strop.data.rows import Fault, format_lines

WORDINGS = ("questions", "wordings", *QUESTIONS)
"""Columns of a question, or of a list of its wordings."""
FACT, HELD_OUT = "fact", "held_out"


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact: an answer, the wordings of its question that are trained, and those that are not."""

    answer: str
    wordings: tuple[str, ...]
    held_out: tuple[str, ...] = ()


def facts_of(file: Path, seed: int) -> tuple[list[Fact], list[str]]:
    """Return the facts of a file, and notes about rows that are not used.

    A row has an answer and a list of wordings (`questions`), or one question and a `fact` that rows
    about the same fact have in common. A column `held_out` lists wordings that are not trained on;
    without it one of several wordings, drawn by the seed.

    Raises:
        DataError: the file cannot be read, or no fact has a wording to hold out.
    """
    groups: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    broken: list[int] = []
    for line, item in records(file):
        row = None if isinstance(item, Fault) else _row(item)
        if row is None:
            broken.append(line)
        else:
            groups[("line", line) if row[FACT] is None else row[FACT]].append(row)
    facts = list(with_test_wordings(map(_merged, groups.values()), seed))
    if not any(fact.held_out for fact in facts):
        raise DataError(
            f"{file} has no fact in two wordings, of which one could be held out to see whether it "
            'was learned; write {"questions": ["…", "…"], "answer": "…"}, or give the rows of one '
            f"fact the same text in a column {FACT}"
        )
    return facts, [f"{format_lines(broken)}: no question or answer; left out"] if broken else []


def with_test_wordings(facts: Iterable[Fact], seed: int) -> Iterator[Fact]:
    """Yield facts with one of several wordings held out, where none is yet."""
    for number, fact in enumerate(facts):
        if fact.held_out or len(fact.wordings) < 2:
            yield fact
            continue
        place = random.Random(f"{seed} {number}").randrange(len(fact.wordings))
        others = fact.wordings[:place] + fact.wordings[place + 1 :]
        yield Fact(fact.answer, others, (fact.wordings[place],))


def _row(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return wordings, answer, wordings held out and fact of a row; None without one of the first."""
    wordings = next((texts for name in WORDINGS if (texts := _texts(item.get(name)))), [])
    answers = next(
        (texts for name in ("answers", *ANSWERS) if (texts := _texts(item.get(name)))), []
    )
    if not wordings or not answers:
        return None
    fact, held_out = item.get(FACT), _texts(item.get(HELD_OUT))
    return {"wordings": wordings, "answer": answers[0], HELD_OUT: held_out, FACT: fact}


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(text).strip() for text in values if text is not None and str(text).strip()]


def _merged(rows: Sequence[Mapping[str, Any]]) -> Fact:
    """Return the fact that rows are about; a wording that is held out is in no row trained on."""
    apart = tuple(dict.fromkeys(text for row in rows for text in row[HELD_OUT]))
    wordings = dict.fromkeys(text for row in rows for text in row["wordings"] if text not in apart)
    return Fact(rows[0]["answer"], tuple(wordings), apart)
