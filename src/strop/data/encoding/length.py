"""Length of examples: what becomes of a row with more tokens than training takes."""

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from strop.core.tokens import IGNORE_INDEX
from strop.data.rows import BrokenRowsError, Example, Fault


@dataclass(frozen=True, slots=True)
class Fit:
    """Rule for rows that are longer than `max_length`.

    A conversation is cut at its end. A plain text is divided into examples of `max_length` tokens,
    or cut as well. As a model predicts each token from those before it, an example begins with the
    last token of the one before, unsupervised: every token of the text is predicted once.
    """

    max_length: int | None = None
    """Largest number of tokens of an example; None fits every row."""
    texts: Literal["divide", "cut"] = "divide"
    """Treatment of plain texts that are longer."""

    def visible(self, example: Example) -> int:
        """Return the number of tokens of a row that training sees."""
        if self.max_length is None or (example.divisible and self.texts == "divide"):
            return len(example.ids)
        return min(len(example.ids), self.max_length)

    def examples(self, whole: Example) -> list[Example] | Fault:
        """Return the examples that fit, or a fault if no supervised token is left of the row."""
        n = self.max_length
        if n is None or len(whole.ids) <= n:
            return [whole]
        if self.visible(whole) == len(whole.ids):
            first = dataclasses.replace(whole, ids=whole.ids[:n], labels=whole.labels[:n])
            step = max(1, n - 1)
            return [first] + [
                dataclasses.replace(
                    whole,
                    ids=whole.ids[i : i + n],
                    labels=[IGNORE_INDEX, *whole.labels[i + 1 : i + n]],
                )
                for i in range(step, len(whole.ids) - 1, step)
            ]
        labels = whole.labels[:n]
        if all(label == IGNORE_INDEX for label in labels):
            reason = (
                f"no token carries loss: the answer begins after the first {n} tokens and the "
                "row is cut there; raise max_length or shorten the prompt"
            )
            return Fault(whole.line, reason, "no_loss")
        cut, weights = len(whole.ids) - n, whole.weights and whole.weights[:n]
        return [
            dataclasses.replace(whole, ids=whole.ids[:n], labels=labels, cut=cut, weights=weights)
        ]

    def each(self, encoded: Iterable[Example | Fault], source: str) -> list[list[Example]]:
        """Return the examples of each row.

        Args:
            encoded: the whole rows, as `encoded` yields them.
            source: of the rows, for errors.

        Raises:
            BrokenRowsError: some rows have faults, or no supervised token is left of them.
        """
        fitted = [row if isinstance(row, Fault) else self.examples(row) for row in encoded]
        if faults := [row for row in fitted if isinstance(row, Fault)]:
            raise BrokenRowsError(source, faults, len(fitted))
        return [row for row in fitted if not isinstance(row, Fault)]

    def all(self, encoded: Iterable[Example | Fault], source: str) -> list[Example]:
        """Return the examples of all rows in order; see `each`."""
        return list(itertools.chain.from_iterable(self.each(encoded, source)))


WHOLE = Fit()
"""Rule that fits every row whole."""
