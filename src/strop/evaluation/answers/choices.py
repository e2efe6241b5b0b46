"""Multiple choice: the likeliest of the choices of a question, by its text."""

import dataclasses
from collections.abc import Sequence

import torch

from strop.data import Row
from strop.data.formats.cells import FaultyRecordError
from strop.data.formats.messages import conversation
from strop.data.formats.questions import CHOICE_QUESTIONS, CHOICES, choices_in, with_context
from strop.data.formats.record import Record
from strop.metrics.intervals import Scores, ratio
from strop.metrics.names import CHOICE_METRICS


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A question and the texts of its choices."""

    rows: tuple[Row, ...]
    """The question answered with each choice."""
    choices: tuple[str, ...]
    right: int
    """Number of the right choice, from 0."""


def question_of(line: int, record: Record, answer: str | None) -> Question | None:
    """Return the question of a record with choices, the choices left out of its text, or None.

    Args:
        line: of the record.
        record: by the names that formats know.
        answer: the right answer: a letter, or the text of a choice.
    """
    name = next((c for c in CHOICE_QUESTIONS if isinstance(record.get(c), str)), None)
    try:
        choices = choices_in(record)
        if name is None or choices is None or answer is None or len(choices) < 2:
            return None
        places = [i for i, of in enumerate(choices.items()) if answer.strip() in of]
        if len(places) != 1:
            return None
        plain = {k: v for k, v in record.items() if k not in CHOICES}
        content = with_context(plain, plain[name], [name])
        messages = conversation([{"role": "user", "content": content}], plain, answered=False)
    except FaultyRecordError:
        return None
    rows = tuple(
        Row(line, [*messages, {"role": "assistant", "content": text}]) for text in choices.values()
    )
    return Question(rows, tuple(choices.values()), places[0])


def choice_scores(
    questions: Sequence[Question | None],
    likelihoods: Sequence[Sequence[tuple[float, int]] | None],
) -> dict[str, Scores]:
    """Return the share of questions whose likeliest choice is right, by each length.

    Args:
        questions: of each row, None where it has none.
        likelihoods: total log-probability and tokens of each choice of each row.
    """
    hits: dict[str, list[float]] = {name: [] for name in CHOICE_METRICS}
    places: list[int] = []
    for place, (question, of_row) in enumerate(zip(questions, likelihoods, strict=True)):
        if question is None or of_row is None:
            continue
        places.append(place)
        sizes = zip(question.choices, of_row, strict=True)
        values = [
            (total, total / max(1, len(choice.encode())), total / max(1, tokens))
            for choice, (total, tokens) in sizes
        ]
        for name, column in zip(CHOICE_METRICS, zip(*values, strict=True), strict=True):
            hits[name].append(float(column.index(max(column)) == question.right))
    if not places:
        return {}
    ones = torch.ones(len(places), dtype=torch.float64)
    return {
        name: Scores(
            torch.stack([torch.tensor(of, dtype=torch.float64), ones], 1),
            ratio,
            share=True,
            right=True,
            rows=tuple(places),
        )
        for name, of in hits.items()
    }
