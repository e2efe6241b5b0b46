"""Data of a run as tokens: rows encoded and counted, with their digest."""

import abc
import dataclasses
import hashlib
import itertools
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from strop.core.errors import ConfigError
from strop.core.tokens import IGNORE_INDEX, context_length
from strop.data import Example, Fit, Piece, Row, Supervision, encode_all, show
from strop.data.checking.checker import content_findings
from strop.data.encoding.parts import LEFT_OUT
from strop.data.reading.blend import format_parts
from strop.data.repetition import repeated_share
from strop.planning.plan import Rows
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows

if TYPE_CHECKING:
    import datasets

LONG = 4096
"""Tokens up to which nothing is cut where no max_length is set."""

WEIGHTS = "loss_weights"
"""Column of the tokens' weights, where the data has some."""

_SHOWN = 20_000
_CHECKED = 10_000
"""Rows whose content is checked when a run begins, which takes a second or two."""


E = TypeVar("E")


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingData(abc.ABC, Generic[E]):
    """Tokens that a method trains on."""

    train: Sequence[E]
    """Rows that are trained on."""
    held_out: Sequence[E]
    """Rows on which only the loss is measured."""
    facts: dict[str, Any]
    """Counts and a SHA-256 for run.json."""
    samples: list[list[Piece]]
    """First rows as `strop data show` shows them."""

    @property
    @abc.abstractmethod
    def token_ids(self) -> Sequence[list[int]]:
        """Tokens that are computed for each training row."""

    @property
    @abc.abstractmethod
    def labels(self) -> Sequence[list[int]]:
        """Labels of these, `IGNORE_INDEX` where a token is not supervised."""

    @property
    @abc.abstractmethod
    def texts(self) -> Iterable[list[int]]:
        """Sequences that the model learns to write."""

    @property
    @abc.abstractmethod
    def sequences(self) -> Iterable[list[int]]:
        """Every sequence of tokens, of training and held-out rows."""

    @abc.abstractmethod
    def table(self, rows: list[E]) -> "datasets.Dataset":
        """Return rows as TRL's collator takes them."""

    @property
    def evaluates(self) -> bool:
        """True if there are held-out rows to measure the loss on."""
        return bool(self.held_out)

    @property
    def rows(self) -> Rows:
        """Tokens and labels of training and held-out rows, as plans take them."""
        held_out = dataclasses.replace(self, train=self.held_out)
        train, others = (
            list(zip(part.token_ids, part.labels, strict=True)) for part in (self, held_out)
        )
        return Rows(train, others)

    def sets(self) -> tuple["datasets.Dataset", "datasets.Dataset | None"]:
        """Return training and held-out rows as TRL takes them."""
        held_out = self.table([*self.held_out]) if self.held_out else None
        return self.table([*self.train]), held_out


@dataclasses.dataclass(frozen=True, slots=True)
class TokenizedDataset(TrainingData[Example]):
    """Rows of a run as tokens."""

    @property
    def token_ids(self) -> list[list[int]]:
        """Tokens of each training row."""
        return [example.ids for example in self.train]

    @property
    def labels(self) -> list[list[int]]:
        """Labels of each training row."""
        return [example.labels for example in self.train]

    @property
    def texts(self) -> list[list[int]]:
        """Tokens of each training row."""
        return self.token_ids

    @property
    def sequences(self) -> Iterable[list[int]]:
        """Tokens of every row."""
        return (example.ids for example in (*self.train, *self.held_out))

    @property
    def weighted(self) -> bool:
        """True if some supervised token counts more or less than another."""
        return any(
            weight != 1 and label != IGNORE_INDEX
            for example in self.train
            for weight, label in zip(example.weights or (), example.labels, strict=False)
        )

    def table(self, rows: list[Example]) -> "datasets.Dataset":
        """Return rows as TRL's collator takes them, with the tokens' weights where there are some."""
        import datasets

        columns: dict[str, list[Any]] = {
            "input_ids": [example.ids for example in rows],
            "labels": [example.labels for example in rows],
        }
        if self.weighted:
            columns[WEIGHTS] = [example.weights or [1.0] * len(example.ids) for example in rows]
        return datasets.Dataset.from_dict(columns)


def length_limit(settings: Settings, config: Any) -> int | None:
    """Return the most tokens a row may have: `max_length`, else the model's context if it has one.

    Raises:
        ConfigError: max_length is longer than the model's context.
    """
    context = context_length(config)
    if settings.max_length is None:
        return context
    if context is not None and settings.max_length > context:
        raise ConfigError(
            f"max_length is {settings.max_length}; the model's context ends at {context} tokens"
        )
    return settings.max_length


def length_for(lengths: Sequence[int], limit: int | None) -> int:
    """Return the `max_length` that suits rows of these lengths, at most `limit`.

    Nothing is cut up to `LONG` tokens; beyond that as far as 99 of 100 rows need, so that a few
    outliers do not decide the memory of the whole run.
    """
    ordered = sorted(lengths)
    length = max(min(ordered[-1], LONG), ordered[math.ceil(0.99 * len(ordered)) - 1], 2)
    return length if limit is None else min(length, limit)


def encode(
    rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None
) -> TokenizedDataset:
    """Return the rows as tokens.

    Conversations longer than max_length are cut, longer plain texts divided. The facts name each
    such row.

    Args:
        rows: read and split.
        tokenizer: the model's.
        settings: how long rows may be, which parts of the answers carry loss.
        limit: what `length_limit` returned.

    Raises:
        DataError: rows are broken, or their answer begins after max_length. All are listed.
    """
    both, train = rows.both, rows.train
    supervision = Supervision(settings.answers, settings.end_token, settings.reasoning)
    whole = encode_all(both, tokenizer, supervision=supervision)
    lengths = [len(example.ids) for example in whole]
    max_length = settings.max_length or length_for(lengths, limit)
    fitted = Fit(max_length).each(whole, rows.source)
    first, second = (
        list(itertools.chain.from_iterable(part))
        for part in (fitted[: len(train)], fitted[len(train) :])
    )
    answers = ([label for label in e.labels if label != IGNORE_INDEX] for e in first)
    facts = row_facts(rows, whole, _pair_note(both)) | {
        "tokens": sum(len(e.ids) for e in first),
        "supervised_tokens": sum(label != IGNORE_INDEX for e in first for label in e.labels),
        "repeated_answers": round(repeated_share(answers), 3),
        "longest_row": max(lengths),
        "max_length": max_length,
        "cut_lines": sorted(e.line for e in first + second if e.cut),
        "cut_tokens": sum(e.cut for e in first + second),
        "divided_lines": sorted(parts[0].line for parts in fitted if len(parts) > 1),
        "sha256": _fingerprint(first, second),
    }
    samples = shown_rows(train, tokenizer, max_length, supervision)
    return TokenizedDataset(first, second, facts, samples)


def _pair_note(rows: Sequence[Row]) -> str:
    pairs = sum(row.rejected is not None for row in rows)
    if not pairs:
        return ""
    return (
        f"{pairs:,} rows are pairs: their chosen answers are imitated, and nothing is learned "
        "from the rejected ones; --method dpo learns from both, where every row is a pair"
    )


def row_facts(rows: SplitRows, encoded: Sequence[Example], note: str = "") -> dict[str, Any]:
    """Return the facts about rows that all methods have, with a note of the method."""
    parts = rows.blend.parts
    return {
        "source": rows.source,
        "format": rows.blend.rows.format,
        "rows": len(rows.train),
        "held_out_rows": len(rows.held_out),
        "sources": [dataclasses.asdict(part) for part in parts],
        "notes": [
            *rows.train.notes,
            *(format_parts(parts, rows.train) if len(parts) > 1 else ()),
            *([note] if note else []),
        ],
        "findings": content_findings(rows.blend.rows.rows[:_CHECKED]),
        "unwanted_lines": rows.undesirable,
        "merged_lines": sorted(row.line for row in rows.both if row.merged),
        "dropped_lines": _dropped(encoded),
    }


def _dropped(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Return the lines of the rows of which the chat template leaves something out, by kind."""
    lines: dict[str, list[int]] = {}
    for kind in LEFT_OUT:
        if of_kind := sorted(e.line for e in examples if kind in e.dropped):
            lines[kind] = of_kind
    return lines


def _fingerprint(*parts: list[Example]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"part {len(part)} ".encode())
        for example in part:
            digest.update(f"row {len(example.ids)} ".encode())
            digest.update(array("q", [*example.ids, *example.labels]).tobytes())
            digest.update(array("d", example.weights or ()).tobytes())
    return digest.hexdigest()


def shown_rows(
    rows: Iterable[Row], tokenizer: Any, max_length: int, supervision: Supervision
) -> list[list[Piece]]:
    """Return the first rows as `strop data show` shows them, few and short enough for a page."""
    return [
        _shortened(show(row, tokenizer, max_length=max_length, supervision=supervision))
        for row in itertools.islice(rows, 5)
    ]


def _shortened(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces up to `_SHOWN` characters, few enough for a page."""
    shown: list[Piece] = []
    room = _SHOWN
    for piece in pieces:
        if len(piece.text) > room:
            return [*shown, dataclasses.replace(piece, text=piece.text[:room] + " …")]
        shown.append(piece)
        room -= len(piece.text)
    return shown
