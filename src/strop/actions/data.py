"""Checks of data before training, and rows as the model sees them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from strop.core.progress import Progress, silent
from strop.data.reading.columns import columns_of

Names = Mapping[str, str | None]
"""Settings `map`, `ignore_columns`, `instruction` and `encoding` by their names."""


def check(
    file: str,
    model: str | None = None,
    *,
    max_length: int | None = None,
    held_out: str | None = None,
    columns: Names | None = None,
    speed: float | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the report of `strop.data.check`, and whether a finding in it is severe.

    Args:
        file: a file, a folder or hf:owner/name.
        model: the model to be trained, whose tokens are counted; None counts none.
        max_length: tokens at which training will cut rows.
        held_out: test data, whose rows must not be in the file.
        columns: how the file's columns are read.
        speed: tokens per second in training, to give the minutes of an epoch.
        progress: called as rows are read and compared.

    Raises:
        StropError: the file or the model cannot be used.
    """
    from strop import data

    report = data.check(
        file,
        _tokenizer(model) if model else None,
        max_length=max_length,
        held_out=held_out,
        columns=columns_of(columns or {}),
        progress=progress,
    )
    result = {**report.as_json(), "severe": report.severe}
    if speed:
        result["minutes"] = report.minutes(speed)
    return result


def fix(file: str, to: Path, *, columns: Names | None = None) -> dict[str, Any]:
    """Write the cleaned rows of a file, and the changes beside them; return what was done.

    Raises:
        StropError: the file cannot be read.
    """
    from strop.data.checking.fix import clean

    cleaned = clean(file, to, columns=columns_of(columns or {}))
    return {
        "file": str(to),
        "changes": len(cleaned.changes),
        "rows": cleaned.rows,
        "left": cleaned.left,
        "sentence": cleaned.sentence,
    }


def draw_lengths(histogram: Sequence[tuple[int, int, int]], to: Path) -> None:
    """Write the histogram of a report's `lengths` as SVG."""
    from strop.core.files import written_whole
    from strop.data.checking.report import picture

    with written_whole(to) as scratch:
        scratch.write_text(picture(histogram), encoding="utf-8")


def show(
    file: str,
    row: int | None = None,
    *,
    model: str,
    max_length: int | None = None,
    columns: Names | None = None,
) -> dict[str, Any]:
    """Return one row as pieces of text, each with its kind and its number of tokens.

    Args:
        file: a file, a folder or hf:owner/name.
        row: line at which the row begins; None takes the first row.
        model: the model to be trained.
        max_length: tokens at which training will cut the row.
        columns: how the file's columns are read.

    Raises:
        StropError: the file or the model cannot be used, or there is no such row.
    """
    from strop import data
    from strop.data.preview import row_at

    chosen = row_at(file, row, columns_of(columns or {}))
    pieces = data.show(chosen, _tokenizer(model), max_length=max_length)
    return {
        "row": chosen.line,
        "pieces": [{"text": p.text, "kind": p.kind, "tokens": p.tokens} for p in pieces],
    }


def _tokenizer(model: str) -> Any:
    from strop.models.loading import load_tokenizer

    return load_tokenizer(model)
