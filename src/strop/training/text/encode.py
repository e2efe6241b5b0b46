"""Whole texts of a run encoded, divided, packed, and mixed with earlier ones."""

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from strop.core.errors import ConfigError, DataError
from strop.data import Row
from strop.data.checking.checker import content_findings
from strop.data.encoding.supervision import EVERYTHING
from strop.data.reading.blend import format_parts, sources_of
from strop.data.reading.columns import columns_of
from strop.data.texts import Texts, read_texts
from strop.planning.settings import Settings
from strop.runs.run_data import SplitRows
from strop.training.dataset import length_for, shown_rows
from strop.training.text.blocks import Blocks, TextData
from strop.training.text.packing import Pieces, pieces
from strop.training.text.tokens import TokenFile, token_file

LONGEST = 2048
"""Tokens of a block where no max_length is set and texts are longer."""
MARGIN = 1.5
"""Characters of earlier texts that are encoded, by those that would do if they had as many a token."""
_SHOWN = 20_000


def encode(rows: SplitRows, tokenizer: Any, settings: Settings, limit: int | None) -> TextData:
    """Return the texts as blocks of tokens in a file, replayed ones mixed in.

    Args:
        rows: read and split; texts.
        tokenizer: the model's.
        settings: how long a block is, what is replayed.
        limit: most tokens that the model takes; None has no limit.

    Raises:
        ConfigError: a setting says what of a conversation is learned.
        DataError: texts that cannot be encoded, all listed; or nothing to predict in them.
    """
    texts = rows.texts
    if texts is None:
        raise DataError(
            f"{rows.source} was read as {rows.blend.rows.format}; method text learns texts"
        )
    if settings.answers != "all" or not settings.reasoning or not settings.end_token:
        raise ConfigError(
            "answers, end_token and reasoning are of conversations, and method text learns texts "
            "whole; leave them out"
        )
    folder = _folder(settings)
    tokens = token_file(texts, tokenizer, rows.source, folder)
    room = settings.max_length or length_for(tokens.lengths, min(limit or LONGEST, LONGEST))
    place = tokens.places
    train, held_out = (
        _pieces(tokens, [place[row.line] for row in part], room)
        for part in (rows.train, rows.held_out)
    )
    if not len(train):
        raise DataError(f"{rows.source} has no text of two tokens or more, so nothing to predict")
    files, parts, notes = [tokens], [train], list[str]()
    if settings.replay is not None:
        earlier, drawn, note = _replayed(rows, settings, tokenizer, tokens, train)
        files.append(earlier)
        parts.append(_pieces(earlier, drawn, room))
        notes.append(note)
    packed = Blocks([file.ids for file in files], parts, room)
    facts = _facts(rows, tokens, parts, room)
    facts["notes"] += [_packed_note(tokens, packed, facts["tokens"], room), *notes]
    lines = [[row.line for row in part] for part in (rows.train, rows.held_out)]
    facts["sha256"] = tokens.digest_with(room, lines, [file.sha256 for file in files[1:]])
    first = (_begun(row) for row in rows.train if row.line in texts.first)
    samples = shown_rows(first, tokenizer, room, EVERYTHING)
    return TextData(packed, Blocks([tokens.ids], [held_out], room), facts, samples, folder)


def _folder(settings: Settings) -> Path | None:
    """Return the folder of the run, where tokens find as much room as checkpoints."""
    folder = None if settings.out is None else Path(settings.out)
    return folder if folder is not None and folder.is_dir() else None


def _pieces(tokens: TokenFile, texts: list[int], room: int) -> Pieces:
    return pieces([tokens.starts[i] for i in texts], [tokens.lengths[i] for i in texts], room)


def _begun(row: Row) -> Row:
    """Return as much of a text as a page shows."""
    return dataclasses.replace(row, text=(row.text or "")[:_SHOWN])


def _replayed(
    rows: SplitRows, settings: Settings, tokenizer: Any, tokens: TokenFile, train: Pieces
) -> tuple[TokenFile, list[int], str]:
    """Return earlier texts, those of them that make their share, drawn by the seed, and a sentence."""
    source = sources_of(settings.replay)[0]
    path, share = str(source.data), source.weight
    texts = read_texts(path, columns_of({"encoding": settings.encoding}))
    target = round(share / (1 - share) * train.tokens)
    order = [row.line for row in texts.blend.rows]
    random.Random(f"{settings.seed} replay").shuffle(order)
    near = _enough(texts, order, MARGIN * target * _characters_a_token(rows, tokens))
    some = (row for row in texts if row.line in near)
    earlier = token_file(some, tokenizer, path, _folder(settings))
    place = earlier.places
    drawn: list[int] = []
    count = 0
    for line in order:
        if line in place and count < target:
            drawn.append(place[line])
            count += earlier.lengths[place[line]]
    actual = count / (count + train.tokens)
    note = (
        f"replay: {len(drawn):,} of {len(order):,} texts of {path} are mixed in, {100 * actual:.0f} % "
        "of the tokens"
    )
    if actual < 0.9 * share:
        note += f"; {100 * share:.0f} % would need more of them"
    return earlier, drawn, note


def _characters_a_token(rows: SplitRows, tokens: TokenFile) -> float:
    assert rows.texts is not None
    place = tokens.places
    first = rows.texts.first
    characters = sum(len(row.text or "") for row in first.values())
    return characters / max(1, sum(tokens.lengths[place[line]] for line in first))


def _enough(texts: Texts, order: list[int], characters: float) -> set[int]:
    """Return the lines of the first texts of an order that have so many characters together."""
    sizes = {row.line: len(row.text or "") for row in texts}
    chosen: set[int] = set()
    for line in order:
        if characters <= 0:
            break
        chosen.add(line)
        characters -= sizes[line]
    return chosen


def _facts(
    rows: SplitRows, tokens: TokenFile, parts: Sequence[Pieces], room: int
) -> dict[str, Any]:
    """Return counts for run.json of what is trained on."""
    assert rows.texts is not None
    total = sum(part.tokens for part in parts)
    sources = rows.blend.parts
    return {
        "source": rows.source,
        "format": rows.blend.rows.format,
        "rows": len(rows.train),
        "held_out_rows": len(rows.held_out),
        "sources": [dataclasses.asdict(part) for part in sources],
        "notes": [
            *rows.blend.rows.notes,
            *(format_parts(sources, rows.train) if len(sources) > 1 else ()),
        ],
        "findings": content_findings([*rows.texts.first.values()]),
        "unwanted_lines": [],
        "merged_lines": [],
        "dropped_lines": {},
        "tokens": total,
        "supervised_tokens": total - sum(map(len, parts)),
        "longest_row": max(tokens.lengths),
        "max_length": room,
        "cut_lines": [],
        "cut_tokens": 0,
        "divided_lines": [],
    }


def _packed_note(tokens: TokenFile, packed: Blocks, total: int, room: int) -> str:
    full = 100 * total / max(1, len(packed) * room)
    divided = sum(length > room for length in tokens.lengths)
    return (
        f"method text: whole texts are learned, packed into {len(packed):,} blocks of up to {room:,} "
        f"tokens ({full:.0f} % full) in which no text sees another"
        + (f"; {divided:,} longer texts are divided, and no token is lost" if divided else "")
    )
