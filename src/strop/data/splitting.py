"""Split of rows into training and held-out part."""

import dataclasses
import json
import random
from collections import defaultdict

from strop.core.errors import DataError
from strop.data.rows import Row, Rows


def split(rows: Rows, *, held_out: float | int, seed: int) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows held out, each in the order of the source.

    Equal rows stay in one part, so that no held-out row is also trained on.

    Args:
        rows: all rows.
        held_out: number of rows to hold out, or their share as a float below 1.
        seed: of the shuffle.

    Raises:
        DataError: more rows are to be held out than can be.
    """
    count = round(len(rows) * held_out) if isinstance(held_out, float) else held_out
    if count < 0 or (isinstance(held_out, float) and not 0 <= held_out < 1):
        raise DataError(f"held_out is {held_out}; give a share from 0 to below 1, or a row count")
    if len(rows) == 1:
        count = 0
    if isinstance(held_out, float) and held_out > 0 and len(rows) > 1:
        count = max(1, min(count, len(rows) - 1))
    if count and count >= len(rows):
        raise DataError(
            f"held_out is {held_out}, but {rows.source} has {len(rows)} rows, so none "
            "would be left to train on; hold out fewer"
        )
    equal: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        equal[_content(row)].append(i)
    groups = list(equal.values())
    random.Random(seed).shuffle(groups)
    chosen: set[int] = set()
    for group in groups:
        if len(chosen) + len(group) <= count:
            chosen.update(group)
    parts = ([r for i, r in enumerate(rows) if (i in chosen) == side] for side in (False, True))
    train, test = (dataclasses.replace(rows, rows=part) for part in parts)
    return train, test


def apart(rows: Rows, held_out: Rows) -> Rows:
    """Return the rows that are not among those held out, with a note about the others.

    Raises:
        DataError: there are none.
    """
    outside = {_content(row) for row in held_out}
    different = [row for row in rows if _content(row) not in outside]
    if not different:
        raise DataError(
            f"every row of {rows.source} is in {held_out.source} too, so none would be left to "
            "train on; hold out another file"
        )
    both = len(rows) - len(different)
    note = f"{both:,} rows are in {held_out.source} too and are not trained on"
    return dataclasses.replace(
        rows, rows=different, notes=(*rows.notes, *((note,) if both else ()))
    )


def _content(row: Row) -> str:
    return row.text if row.messages is None else json.dumps(row.messages, sort_keys=True)  # type: ignore[return-value]
