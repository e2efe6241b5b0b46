"""The teacher's likeliest tokens of every answer, on disk: computed once, read in each epoch and run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strop.core.cache import cached_folder
from strop.core.progress import Progress
from strop.core.tokens import IGNORE_INDEX
from strop.data import Example
from strop.training.distillation.teacher import Teacher

TOKENS_AT_ONCE = 4096
"""Of a batch of the teacher."""
_TILE_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class StoredTopK:
    """Likeliest tokens and log-probabilities of each supervised token, row by row, in files."""

    tokens: Any
    """[N, K] int32, memory-mapped."""
    log_probs: Any
    """[N, K+1] float32: of these, and of all other tokens together."""
    starts: Any
    """[rows + 1] where the supervised tokens of each row begin."""

    @classmethod
    def open(cls, folder: Path) -> "StoredTopK":
        """Open what `top_k_of` stored."""
        names = ("tokens", "log_probs", "starts")
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))

    def of(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return log-probabilities [M, K+1] and tokens [M, K] of the supervised tokens of rows."""
        parts = [slice(self.starts[row], self.starts[row + 1]) for row in rows]
        log_probs = np.concatenate([self.log_probs[part] for part in parts])
        tokens = np.concatenate([self.tokens[part] for part in parts])
        return torch.from_numpy(log_probs), torch.from_numpy(tokens.astype(np.int64))


def top_k_of(
    teacher: Teacher, rows: Sequence[Example], k: int, sha256: str, progress: Progress
) -> StoredTopK:
    """Return the teacher's likeliest tokens of the rows, from the cache where it has them.

    Args:
        teacher: computes them the first time.
        rows: as tokens.
        k: tokens of each place.
        sha256: of the rows' tokens.
        progress: called with the rows that are done.
    """
    key = {"teacher": teacher.identity(), "k": k, "rows": sha256}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]

    def build(folder: Path) -> None:
        folder.mkdir()
        counts = [supervised(row) for row in rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        np.save(folder / "starts.npy", starts)
        shapes = {"tokens": (np.int32, k), "log_probs": (np.float32, k + 1)}
        files = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy", "w+", dtype, (int(starts[-1]), width)
            )
            for name, (dtype, width) in shapes.items()
        }
        for batch in _batches(rows):
            log_probs, tokens = _likeliest(teacher, [rows[i] for i in batch], k)
            ends = np.cumsum([counts[i] for i in batch])
            for i, end in zip(batch, ends, strict=True):
                part, place = slice(end - counts[i], end), slice(starts[i], starts[i + 1])
                files["tokens"][place] = tokens[part].numpy()
                files["log_probs"][place] = log_probs[part].numpy()
            progress("asking the teacher", batch[-1] + 1, len(rows))
        for file in files.values():
            file.flush()

    return StoredTopK.open(cached_folder(f"top{k}-{name}", key, build, shelf="teachers"))


def supervised(row: Example) -> int:
    """Return the number of tokens of a row that are learned."""
    return sum(label != IGNORE_INDEX for label in row.labels[1:])


def _batches(rows: Sequence[Example]) -> list[range]:
    """Return rows that follow one another, about `TOKENS_AT_ONCE` tokens at a time."""
    batches, start, size = [], 0, 0
    for i, row in enumerate(rows):
        if size and size + len(row.ids) > TOKENS_AT_ONCE:
            batches.append(range(start, i))
            start, size = i, 0
        size += len(row.ids)
    return [*batches, range(start, len(rows))] if rows else []


@torch.no_grad()
def _likeliest(teacher: Teacher, rows: Sequence[Example], k: int) -> tuple[Tensor, Tensor]:
    """Return log-probabilities [M, k+1] and tokens [M, k] of rows, a tile of logits at a time."""
    longest = max(len(row.ids) for row in rows)
    ids, mask = torch.zeros((2, len(rows), longest), dtype=torch.int64)
    labels = torch.full_like(ids, IGNORE_INDEX)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, : len(row.labels)] = torch.tensor(row.labels)
        mask[i, : len(row.ids)] = 1
    device = teacher.model.device
    hidden = teacher.hidden_rows(ids.to(device), mask.to(device), labels.to(device))
    weight, logits = teacher.head()
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    dense = weight.to(dtype)
    parts: list[tuple[Tensor, Tensor]] = []
    for tile in hidden.to(dtype).split(max(1, _TILE_BYTES // (4 * len(weight)))):
        log_probs = logits.of((tile @ dense.T).float())[0].log_softmax(-1)
        top, tokens = log_probs.topk(k)
        others = log_probs.scatter_(1, tokens, -torch.inf).logsumexp(-1, keepdim=True)
        parts.append((torch.cat((top, others), 1).cpu(), tokens.cpu()))
    if not parts:
        return torch.zeros(0, k + 1), torch.zeros(0, k, dtype=torch.int64)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
