"""Choices of a question in one column each: A, B, C or option_a, option_b or choice1."""

import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from strop.data.formats.cells import FaultyRecordError
from strop.data.formats.questions import ANSWERS, CHOICE_QUESTIONS, CHOICES, LETTERS
from strop.data.formats.record import Record, Shapes, is_missing, spelled

_NAME = re.compile(
    r"((?:answer[ _-]?)?(?:options?|choices?|opt|op)|ending|sol|)[ _-]?(?:([a-j])|(\d{1,2}))"
)


class ChoiceColumns:
    """Columns that hold a choice each, gathered into one column `choices`."""

    def __init__(self, columns: Sequence[str], answers: Iterable[Any]) -> None:
        """Take the columns of the choices, in order, and the answers, which show the first number."""
        self.columns = dict(zip(columns, string.ascii_uppercase, strict=False))
        numbers = {n for value in answers if (n := _number(value)) is not None}
        self.numbered = bool(numbers)
        ones = columns[0].strip().endswith("1")
        most = max(numbers, default=0)
        self.first = int(0 not in numbers and (ones or most == len(columns)))
        """Number of the first choice in answers."""

    def arranged(self, record: Record) -> Record:
        """Return a record with its choices in one column, by letter, and the answer as a letter.

        Raises:
            FaultyRecordError: the row has no choice of the number that is the answer.
        """
        if not any(column in record for column in self.columns):
            return record
        cells = {n: record[c] for c, n in self.columns.items() if not is_missing(record.get(c))}
        others = {name: value for name, value in record.items() if name not in self.columns}
        arranged = {**others, "choices": cells}
        answer = next((c for c in (*ANSWERS, *LETTERS) if c in record), None)
        if answer is not None:
            arranged[answer] = self._letter(answer, record[answer], cells)
        return arranged

    def _letter(self, answer: str, value: Any, cells: dict[str, Any]) -> Any:
        """Return the letter of a choice named by letter, number or column; else the value.

        Raises:
            FaultyRecordError: the row has no choice of that number.
        """
        text = str(spelled(value) or value).strip()
        if text in {str(spelled(cell) or cell).strip() for cell in cells.values()}:
            return value
        if text.upper() in cells:
            return text.upper()
        named = {str(column).strip().lower(): letter for column, letter in self.columns.items()}
        if (letter := named.get(text.lower())) in cells:
            return letter
        number = _number(value)
        if number is None or not cells:
            return value
        numbers = {n: x for n, x in enumerate(self.columns.values(), self.first) if x in cells}
        if number not in numbers:
            there = f"{min(numbers)} to {max(numbers)}"
            reason = f"{answer} is {number}, and the choices that the row has are {there}"
            raise FaultyRecordError("bad_type", reason)
        return numbers[number]

    def shapes(self, shapes: Shapes) -> Shapes:
        """Return the number of records with each tuple of columns after `arranged`."""
        arranged: Shapes = Counter()
        for shape, count in shapes.items():
            others = tuple(c for c in shape if c not in self.columns)
            arranged[shape if len(others) == len(shape) else (*others, "choices")] += count
        return arranged


def choice_columns(
    columns: Collection[str], values: Callable[[str], Iterator[Any]]
) -> ChoiceColumns | None:
    """Return the columns that hold a choice each beside a question and an answer, or None.

    Args:
        columns: of all records.
        values: returns the values of a column.
    """
    answer = next((name for name in (*ANSWERS, *LETTERS) if name in columns), None)
    if answer is None or not any(name in columns for name in CHOICE_QUESTIONS):
        return None
    if any(name in columns for name in CHOICES):
        return None
    groups: dict[tuple[str, bool], dict[int, str]] = {}
    for column in columns:
        named = _NAME.fullmatch(str(column).strip().lower())
        if named and (named[1] or named[2]):
            place = int(named[3]) if named[3] else string.ascii_lowercase.index(named[2])
            groups.setdefault((named[1], bool(named[3])), {})[place] = column
    for (_, numbered), places in groups.items():
        first = min(places)
        if len(places) > 1 and first <= numbered and len(places) == max(places) - first + 1:
            return ChoiceColumns([places[place] for place in sorted(places)], values(answer))
    return None


def _number(value: Any) -> int | None:
    text = "" if isinstance(value, bool) else str(spelled(value) or value).strip()
    text = text.removesuffix(".0")
    return int(text) if text.isdecimal() and len(text) < 4 else None
