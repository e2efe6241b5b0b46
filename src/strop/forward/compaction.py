"""Token compaction: the tokens of a batch that its loss needs, and each label's row among them.

Integers only. Dropped are padding, every token after the last one that predicts a label, rows without
labels, and all but one copy of a prefix that rows share; of a whole batch, padding and copies only.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strop.core.errors import ShapeError
from strop.core.tokens import IGNORE_INDEX, common_prefix
from strop.ops.segment_attention.segments import Segments

SHORTEST_PREFIX = 16
"""A shared prefix below this many tokens may cost more in calls than it saves.

Small enough for the system message that many templates put before every row, some 25 tokens."""


@dataclass(frozen=True, slots=True)
class CompactBatch:
    """One row of N tokens that stands for some rows of a batch."""

    tokens: Tensor
    """[N] token ids."""
    positions: Tensor
    """[N] position of each token in its sequence."""
    segments: Segments
    """Segments that these tokens form."""
    rows: Tensor
    """[M] index of the token that predicts each label."""
    scored: Tensor
    """[U] tokens that predict any, in order; answers that share a prompt share its last one."""
    places: Tensor
    """[M] index of the token of each label among these."""
    targets: Tensor
    """[M] labels."""
    slots: Tensor
    """[M] index of each label in the flattened [B, T - 1] grid of shifted labels."""
    copies: Tensor | None
    """[N] rows that have each token, of a whole batch."""


@dataclass(frozen=True, slots=True)
class _Row:
    index: int
    tokens: np.ndarray
    positions: np.ndarray
    sources: np.ndarray  # for each label, the token of this row that predicts it
    targets: np.ndarray
    slots: np.ndarray


def compact_batch(
    input_ids: Tensor,
    labels: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    budget: int | None = None,
    share: bool = True,
    whole: bool = False,
) -> list[CompactBatch] | None:
    """Return the tokens that the loss of a padded or packed batch needs, in micro-batches.

    Args:
        input_ids: [B, T] token ids.
        labels: [B, T] the same ids where a token carries loss, -100 elsewhere; not shifted.
        attention_mask: [B, T] 0 at padding, left or right; None means no padding.
        position_ids: [B, T] positions; inside a row they restart where packed documents meet.
        budget: largest number of tokens in a micro-batch of more than one row.
        share: compute a prefix that rows have in common once.
        whole: keep every token that is not padding, of a row with a label or not.

    Returns:
        The micro-batches, none at all if no token is supervised. None if the batch has no such
        form: a hole in the mask, or a label predicted by a padding token.

    Raises:
        ShapeError: the tensors do not fit each other.
    """
    for name, tensor in (("labels", labels), ("attention_mask", attention_mask)):
        if tensor is not None and tensor.shape != input_ids.shape:
            raise ShapeError(
                f"the batch needs {name} of the shape of input_ids {list(input_ids.shape)}; "
                f"got {list(tensor.shape)}"
            )
    rows = _rows(input_ids, labels, attention_mask, position_ids, whole)
    if rows is None:
        return None
    if share:
        rows.sort(key=lambda r: (r.positions[:1].tolist(), r.tokens.tolist()))
    common = [0, *(_common(a, b) if share else 0 for a, b in itertools.pairwise(rows))]
    common = [n if n >= SHORTEST_PREFIX else 0 for n in common]
    device = input_ids.device
    return [
        _joined(rows[a:b], common[a + 1 : b], device, whole) for a, b in _cut(rows, common, budget)
    ]


def _rows(
    input_ids: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    position_ids: Tensor | None,
    whole: bool,
) -> list[_Row] | None:
    ids, targets = input_ids.cpu().numpy(), labels.cpu().numpy()
    B, T = ids.shape
    present = np.ones_like(ids, dtype=bool) if mask is None else mask.cpu().numpy() != 0
    places = None if position_ids is None else position_ids.expand(B, T).cpu().numpy()
    rows: list[_Row] = []
    for b in range(B):
        at_tokens = np.flatnonzero(present[b])
        scored = np.flatnonzero(targets[b, 1:] != IGNORE_INDEX) + 1
        if not scored.size and not (whole and at_tokens.size):
            continue
        hole = at_tokens.size and np.ptp(at_tokens) != at_tokens.size - 1
        if not at_tokens.size or hole or not present[b, scored - 1].all():
            return None
        first = int(at_tokens[0])
        starts = [first]
        if places is not None:
            starts += [int(t) for t in at_tokens[1:] if places[b, t] != places[b, t - 1] + 1]
        for start, end in zip(starts, [*starts[1:], int(at_tokens[-1]) + 1], strict=True):
            at = scored[(scored > start) & (scored <= end)]
            if not at.size and not whole:
                continue
            stop = end if whole else int(at[-1])
            positions = np.arange(stop - start) if places is None else places[b, start:stop]
            slots = b * (T - 1) + at - 1
            tokens, sources = ids[b, start:stop], at - 1 - start
            rows.append(_Row(len(rows), tokens, positions, sources, targets[b, at], slots))
    return rows


def _common(a: _Row, b: _Row) -> int:
    """Return the number of leading tokens that two rows share, positions included."""
    return min(common_prefix(a.tokens, b.tokens), common_prefix(a.positions, b.positions))


@dataclass(frozen=True, slots=True)
class _Segment:
    low: int
    high: int  # rows low to high - 1 share it
    depth: int
    reach: int  # it holds their tokens from depth to reach
    parent: int | None


def _cut(rows: Sequence[_Row], common: list[int], budget: int | None) -> list[tuple[int, int]]:
    """Return micro-batches as index ranges, each within the budget if it has several rows."""
    if budget is None:
        return [(0, len(rows))] if rows else []
    ranges, sizes = [], [row.tokens.size for row in rows]
    first = top = 0  # rows where the micro-batch and its last tree begin
    before = size = 0  # tokens of the micro-batch without that tree, and with it
    for at, alone in enumerate(sizes):
        if at > first and not common[at]:
            top, before = at, size
        segments = _segments(sizes[top : at + 1], common[top + 1 : at + 1])
        size = before + sum(s.reach - s.depth for s in segments)
        if at > first and size > budget:
            ranges.append((first, at))
            first, top, before, size = at, at, 0, alone
    return [*ranges, (first, len(rows))] if rows else []


def _segments(sizes: Sequence[int], common: Sequence[int]) -> list[_Segment]:
    """Return the segments of rows depth-first; `common[i]` is the prefix that rows i and i + 1 share."""
    segments: list[_Segment] = []

    def add(low: int, high: int, depth: int, parent: int | None) -> None:
        while low < high:
            end = low + 1
            while end < high and common[end - 1] >= depth + SHORTEST_PREFIX:
                end += 1
            reach = min(common[low : end - 1], default=sizes[low])
            segment = parent
            if reach > depth:
                segment = len(segments)
                segments.append(_Segment(low, end, depth, reach, parent))
            if end - low > 1:
                add(low, end, reach, segment)
            low = end

    add(0, len(sizes), 0, None)
    return segments


def _joined(
    rows: Sequence[_Row], common: Sequence[int], device: torch.device, whole: bool
) -> CompactBatch:
    """Return rows as one, depth-first; `common[i]` is the prefix that rows i and i + 1 share."""
    segments = _segments([row.tokens.size for row in rows], common)
    places = [np.empty(row.tokens.size, dtype=np.int64) for row in rows]
    size = 0
    for s in segments:
        length = s.reach - s.depth
        for place in places[s.low : s.high]:
            place[s.depth : s.reach] = np.arange(size, size + length)
        size += length
    sources = [place[row.sources] for place, row in zip(places, rows, strict=True)]
    scored, among = np.unique(np.concatenate(sources), return_inverse=True)

    def tensor(parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    return CompactBatch(
        tensor([rows[s.low].tokens[s.depth : s.reach] for s in segments]),
        tensor([rows[s.low].positions[s.depth : s.reach] for s in segments]),
        Segments(tuple(s.reach - s.depth for s in segments), tuple(s.parent for s in segments)),
        tensor(sources),
        tensor([scored]),
        tensor([among]),
        tensor([r.targets for r in rows]),
        tensor([r.slots for r in rows]),
        tensor([np.full(s.reach - s.depth, s.high - s.low) for s in segments]) if whole else None,
    )
