"""Rows whose answers got better and worse most, with the words in which both answers differ."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strop.metrics.text import parts

MOST = 10
"""Answers of each kind."""
_LONGEST = 1000
"""Characters of a text that are shown and compared."""
_STEPS = 10
"""Steps of which drawn answers are shown."""
_CHARACTERS = 300
"""Of a drawn answer that are shown."""

Words = list[tuple[str, bool]]
"""Parts of an answer, and whether the other answer lacks them."""


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """A row, and what both models say to it."""

    line: int
    request: str
    reference: str | None
    before: Words
    after: Words
    score_before: str
    score_after: str
    right_before: bool | None
    """Whether the answer is the right one; None where answers are right to a degree."""
    right_after: bool | None
    change: float
    """Of the score by which rows are ordered; above 0 is better."""


def changed_answers(
    lines: Sequence[Mapping[str, Any]], labels: Sequence[str] | None
) -> tuple[str, list[ChangedAnswer], list[ChangedAnswer]]:
    """Return by what rows are ordered, those that got better most, and those that got worse most.

    Args:
        lines: of evaluation_rows.jsonl.
        labels: of the data, if answers are labels.
    """
    rows = [line for line in lines if "request" in line]
    names = [
        n for n in dict.fromkeys(n for r in rows for n in r.get("scores", ())) if n != "length"
    ]
    if labels and any("labels" in row["tuned"] and row.get("reference") in labels for row in rows):
        by, scored = "probability of the right label", [_by_label(row, labels) for row in rows]
    elif any("choices" in row for row in rows):
        by, scored = "probability of the right choice", [_by_choice(row) for row in rows]
    elif names:
        by = names[0].replace("_", " ")
        scored = [_by_answer(row, names[0]) for row in rows]
    else:
        by, scored = "loss of the right answer, per token", [_by_loss(row) for row in rows]
    ordered = sorted((row for row in scored if row is not None), key=lambda row: -row.change)
    better = [_compared(row) for row in ordered[:MOST] if row.change > 0]
    worse = [_compared(row) for row in ordered[::-1][:MOST] if row.change < 0]
    return by, better, worse


@dataclass(frozen=True, slots=True)
class _Scored:
    """A row with the answers of base and tuned, and how they are scored."""

    row: Mapping[str, Any]
    answers: Sequence[str]
    scores: Sequence[str]
    change: float
    right: Sequence[bool | None] = (None, None)


def _by_label(row: Mapping[str, Any], labels: Sequence[str]) -> _Scored | None:
    models = [row[name].get("labels") for name in ("base", "tuned")]
    if row.get("reference") not in labels or not all(models):
        return None
    right = labels.index(row["reference"])
    shares = [probabilities(of) for of in models]
    answers = [labels[of.index(max(of))] for of in shares]
    return _scored(row, answers, labels[right], [of[right] for of in shares])


def _by_choice(row: Mapping[str, Any]) -> _Scored | None:
    choices = row.get("choices")
    models = [row[name].get("choices") for name in ("base", "tuned")]
    if not choices or not all(models):
        return None
    shares = [probabilities([total for total, _ in of]) for of in models]
    answers = [choices[of.index(max(of))] for of in shares]
    return _scored(row, answers, choices[row["right"]], [of[row["right"]] for of in shares])


def _scored(
    row: Mapping[str, Any], answers: Sequence[str], right: str, shares: Sequence[float]
) -> _Scored:
    """Return a row by the probability that each model gives to its right answer."""
    scores = [f"{100 * share:.1f} %" for share in shares]
    return _Scored(row, answers, scores, shares[1] - shares[0], [a == right for a in answers])


def _by_answer(row: Mapping[str, Any], name: str) -> _Scored | None:
    answers = [row[model].get("answer") for model in ("base", "tuned")]
    values = row.get("scores", {}).get(name)
    if None in answers or values is None:
        return None
    return _Scored(row, answers, [f"{v:.3g}" for v in values], values[1] - values[0])


def _by_loss(row: Mapping[str, Any]) -> _Scored | None:
    models = [row["base"], row["tuned"]]
    if not all(of.get("tokens") and of.get("loss") is not None for of in models):
        return None
    losses = [of["loss"] / of["tokens"] for of in models]
    answers = [of.get("answer", "") for of in models]
    return _Scored(row, answers, [f"{loss:.3f}" for loss in losses], losses[0] - losses[1])


def _compared(scored: _Scored) -> ChangedAnswer:
    """Return a row with the words marked in which its answers differ."""
    row, reference = scored.row, scored.row.get("reference")
    before, after = word_differences(*(cut(answer) for answer in scored.answers))
    return ChangedAnswer(
        line=row["line"],
        request=cut(row["request"]),
        reference=None if reference is None else cut(reference),
        before=before,
        after=after,
        score_before=scored.scores[0],
        score_after=scored.scores[1],
        right_before=scored.right[0],
        right_after=scored.right[1],
        change=scored.change,
    )


def probabilities(log_probs: Sequence[float]) -> list[float]:
    """Return p_i = exp(l_i) / sum_j exp(l_j)."""
    most = max(log_probs)
    weights = [math.exp(value - most) for value in log_probs]
    return [weight / sum(weights) for weight in weights]


def word_differences(first: str, second: str) -> tuple[Words, Words]:
    """Return both texts in parts, each with whether the other text lacks it."""
    one, other = parts(first), parts(second)
    places = longest_common_subsequence(one, other)
    shared = {i for i, _ in places}, {j for _, j in places}
    return _marked(one, shared[0]), _marked(other, shared[1])


def _marked(words: Sequence[str], shared: set[int]) -> Words:
    """Return neighbouring words joined where the other text has all of them, or none."""
    changed = (place not in shared for place in range(len(words)))
    pairs = itertools.groupby(zip(changed, words, strict=True), key=lambda pair: pair[0])
    return [("".join(word for _, word in group), is_changed) for is_changed, group in pairs]


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places in both of the longest sequence that both have, in order.

        L[i, j] = 1 + L[i+1, j+1] where one[i] = other[j], else max(L[i+1, j], L[i, j+1])

    difflib's matcher takes the cube of the length where few words repeat, as in a row of dots: ten
    seconds for 200 of them. This takes the square, whatever the words are.
    """
    rows, columns = len(one), len(other)
    lengths = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        word, here, below = one[i], lengths[i], lengths[i + 1]
        for j in reversed(range(columns)):
            if word == other[j]:
                here[j] = 1 + below[j + 1]
            else:
                here[j] = below[j] if below[j] >= here[j + 1] else here[j + 1]
    places, i, j = [], 0, 0
    while i < rows and j < columns:
        if one[i] == other[j]:
            places.append((i, j))
            i, j = i + 1, j + 1
        elif lengths[i + 1][j] >= lengths[i][j + 1]:
            i += 1
        else:
            j += 1
    return places


def cut(text: str) -> str:
    """Return a text of at most some characters, with the number of those left out."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]} … ({len(text) - _LONGEST:,} more characters)"


def drawn_rows(lines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the drawn answers of at most ten steps, evenly spread, as rows of a table."""
    steps = sorted({line["step"] for line in lines})
    places = {round(i * (len(steps) - 1) / (_STEPS - 1)) for i in range(_STEPS)}
    some = {*steps} if len(steps) <= _STEPS else {steps[place] for place in places}
    return [
        [f"{line['step']:,}", f"{line['line']:,}", f"{line['reward']:.3g}", _short(line["answer"])]
        for line in lines
        if line["step"] in some
    ]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"
