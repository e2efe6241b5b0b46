"""What a run trains on: rows read, split, turned into tokens, counted and fingerprinted."""

import dataclasses
import hashlib
import logging
from array import array
from typing import Any

import datasets

from strop.core.errors import ConfigError
from strop.data import Example, encode_all, read, split
from strop.data.rows import NO_LOSS, spoken_lines
from strop.training.settings import Settings

LONGEST = 4096
"""Tokens of a row where the model's context is longer and no max_length is set."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Material:
    """The rows of a run as tokens."""

    train: list[Example]
    """Rows that are trained on."""
    held_out: list[Example]
    """Rows on which only the loss is measured."""
    facts: dict[str, Any]
    """Counts and a SHA-256 for run.json."""
    samples: list[list[tuple[str, bool]]]
    """The first rows as pieces of text, each with whether it carries loss."""

    def sets(self) -> tuple[datasets.Dataset, datasets.Dataset | None]:
        """Return training and held-out rows as TRL takes them."""
        return _table(self.train), _table(self.held_out) if self.held_out else None


def length_limit(settings: Settings, config: Any) -> int:
    """Return after how many tokens a row is cut.

    Raises:
        ConfigError: max_length is longer than the model's context.
    """
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if settings.max_length is None:
        return min(context or LONGEST, LONGEST)
    if context is not None and settings.max_length > context:
        raise ConfigError(
            f"max_length is {settings.max_length}; the model's context ends at {context} tokens"
        )
    return settings.max_length


def prepare(source: Any, tokenizer: Any, settings: Settings) -> Material:
    """Read, split and encode `source`; `settings.max_length` is set.

    Rows longer than max_length are cut, logged, and named in the facts.

    Raises:
        DataError: rows are broken, or their answer begins after max_length; all are listed.
    """
    rows = read(source)
    train, held_out = split(rows, held_out=settings.held_out, seed=settings.seed)
    examples = encode_all([*train, *held_out], tokenizer, settings.max_length)
    cut = [e.line for e in examples if e.cut]
    if cut:
        logger.warning(
            "%s: %s cut to max_length, %d tokens",
            rows.source,
            spoken_lines(cut),
            settings.max_length,
        )
    first, second = examples[: len(train)], examples[len(train) :]
    facts = {
        "source": rows.source,
        "format": rows.format,
        "rows": len(first),
        "held_out_rows": len(second),
        "tokens": sum(len(e.ids) for e in first),
        "supervised_tokens": sum(label != NO_LOSS for e in first for label in e.labels),
        "longest_row": max(len(e.ids) for e in first),
        "cut_lines": cut,
        "sha256": _fingerprint(first, second),
    }
    return Material(first, second, facts, [_pieces(e, tokenizer) for e in first[:5]])


def _table(examples: list[Example]) -> datasets.Dataset:
    columns = {"input_ids": [e.ids for e in examples], "labels": [e.labels for e in examples]}
    return datasets.Dataset.from_dict(columns)


def _fingerprint(*parts: list[Example]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"part {len(part)} ".encode())
        for example in part:
            digest.update(f"row {len(example.ids)} ".encode())
            digest.update(array("q", [*example.ids, *example.labels]).tobytes())
    return digest.hexdigest()


def _pieces(example: Example, tokenizer: Any, most: int = 400) -> list[tuple[str, bool]]:
    pieces: list[tuple[list[int], bool]] = []
    for token, label in zip(example.ids[:most], example.labels, strict=False):
        supervised = label != NO_LOSS
        if not pieces or pieces[-1][1] != supervised:
            pieces.append(([], supervised))
        pieces[-1][0].append(token)
    return [(tokenizer.decode(ids), supervised) for ids, supervised in pieces]
