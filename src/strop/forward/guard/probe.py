"""Probe: a small batch of another batch's tokens that shows whether rows reach into one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor

from strop.core.tokens import IGNORE_INDEX
from strop.forward.compaction import SHORTEST_PREFIX

UNSUPERVISED = 3
"""Tokens at the end of each row that no label follows: a model that looks ahead shows there."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs of a model, [B, T] each."""

    input_ids: Tensor
    labels: Tensor
    mask: Tensor | None = None
    positions: Tensor | None = None

    def padded_left(self) -> bool:
        """Return whether rows begin with padding whose positions are left to the model."""
        if self.mask is None or self.positions is not None:
            return False
        return bool((self.mask[:, 0] == 0).any())

    def longest(self) -> int:
        """Return the tokens of the longest row; documents packed into one count by themselves."""
        T = self.input_ids.shape[1]
        rows = T if self.mask is None else int((self.mask != 0).sum(-1).max())
        return rows if self.positions is None else min(rows, int(self.positions.max()) + 1)


def make_probe(batch: Batch, context: int | None) -> Batch:
    """Return three rows of `batch`'s tokens: the longest, one that begins like it, and another.

    All but the last few tokens have labels. Padding stands where the batch has it.

    Args:
        batch: has at least one token.
        context: largest number of tokens that the model takes, or None.
    """
    present = torch.ones_like(batch.input_ids) if batch.mask is None else batch.mask
    rows = [ids[mask != 0].tolist() for ids, mask in zip(batch.input_ids, present, strict=True)]
    pool = [token for row in rows for token in row]
    head = SHORTEST_PREFIX + 4
    shortest = 2 * head if context is None else min(2 * head, context)
    length = max(batch.longest(), shortest)
    first = list(islice(cycle(sorted(rows, key=len)[-1]), length))
    back = pool[::-1]
    other = next((i for i, t in enumerate(back) if t != first[min(head, length - 1)]), 0)
    tail = list(islice(cycle(back[other:] + back[:other]), max(1, min(12, length - head))))
    second = [*first[: min(head, length - 1)], *tail]
    third = list(islice(cycle(back), max(2, min(head + 4, length - 1))))
    return _padded([first, second, third], batch)


def _padded(rows: Sequence[Sequence[int]], like: Batch) -> Batch:
    T, device = max(len(row) for row in rows), like.input_ids.device
    left = like.padded_left()
    ids = torch.zeros(len(rows), T, dtype=torch.int64)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORE_INDEX)
    for b, row in enumerate(rows):
        start = T - len(row) if left else 0
        ids[b, start : start + len(row)] = torch.tensor(row)
        mask[b, start : start + len(row)] = 1
        end = start + max(2, len(row) - UNSUPERVISED)
        labels[b, start + 1 : end] = ids[b, start + 1 : end]
    return Batch(ids.to(device), labels.to(device), mask.to(device))
