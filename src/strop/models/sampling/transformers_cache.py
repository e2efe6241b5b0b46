"""Rows of any model through transformers' own forward and cache."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.forward.base_model import base_model
from strop.forward.decoder.mixers import mixers
from strop.models.sampling.rows import Row


@dataclass(slots=True)
class _Group:
    """Rows that began together; those that have left stay in place where the cache cannot drop them."""

    rows: list[Row]
    cache: Any
    mask: Tensor
    """[B, T] 0 at padding, which is left."""


class TransformersCache:
    """Rows in groups, each with a cache of transformers; a prompt of several rows is computed once."""

    def __init__(self, model: Any) -> None:
        self.model = model
        base = base_model(model)
        self._takes_positions = "position_ids" in inspect.signature(type(base).forward).parameters
        self._recurrent = bool(mixers(base))
        self._groups: list[_Group] = []

    def start(self, rows: Sequence[Row]) -> Tensor:
        """Take rows in and return the logits [B, V] of their first tokens."""
        groups: dict[int, list[Row]] = {}
        for row in rows:  # a state would take padding in, so such rows are of one length
            groups.setdefault(len(row.prompt) if self._recurrent else 0, []).append(row)
        logits: dict[Row, Tensor] = {}
        for members in groups.values():
            for row, line in zip(members, self._first(members), strict=True):
                logits[row] = line
        return torch.stack([logits[row] for row in rows])

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Take in the last token of each row and return the logits [B, V] of the next ones.

        Rows that are not named any more are dropped.
        """
        logits: dict[Row, Tensor] = {}
        remaining = set(rows)
        for group in self._groups:
            _drop(group, remaining)
        self._groups = [group for group in self._groups if remaining.intersection(group.rows)]
        for group in self._groups:
            ids = torch.tensor([[row.ids[-1]] for row in group.rows], device=self.model.device)
            group.mask = torch.cat((group.mask, torch.ones_like(ids)), 1)
            lines, group.cache = self._forward(ids, group.mask, group.cache)
            logits.update(zip(group.rows, lines, strict=True))
        return torch.stack([logits[row] for row in rows])

    def _first(self, rows: list[Row]) -> Iterable[Tensor]:
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        T = max(map(len, prompts))
        ids = torch.tensor([[0] * (T - len(p)) + [*p] for p in prompts], device=self.model.device)
        mask = torch.tensor([[0] * (T - len(p)) + [1] * len(p) for p in prompts], device=ids.device)
        lines, cache = self._forward(ids, mask, None)
        places = [prompts.index(row.prompt) for row in rows]
        if len(places) != len(prompts):
            if not _selects(cache):
                ids, mask = ids[places], mask[places]
                lines, cache = self._forward(ids, mask, None)
                places = list(range(len(rows)))
            else:
                index = torch.tensor(places, device=ids.device)
                cache.batch_select_indices(index)
                mask = mask[index]
        self._groups.append(_Group(list(rows), cache, mask))
        return [lines[place] for place in places]

    @torch.no_grad()
    def _forward(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Return the logits [B, V] after the last of the tokens [B, n], and the cache."""
        extra = {}
        if not mask.all():
            extra["attention_mask"] = mask
            if self._takes_positions:
                positions = mask.cumsum(1).sub(1).clamp(min=0)
                extra["position_ids"] = positions[:, -ids.shape[1] :]
        out = self.model(
            input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **extra
        )
        if getattr(out, "past_key_values", None) is None:
            raise UnsupportedError(f"{type(self.model).__name__} keeps no cache of keys and values")
        return out.logits[:, -1], out.past_key_values


def _drop(group: _Group, remaining: set[Row]) -> None:
    places = [i for i, row in enumerate(group.rows) if row in remaining]
    if not places or len(places) == len(group.rows) or not _selects(group.cache):
        return
    index = torch.tensor(places, device=group.mask.device)
    group.cache.batch_select_indices(index)
    group.rows, group.mask = [group.rows[i] for i in places], group.mask[index]


def _selects(cache: Any) -> bool:
    """Return whether rows of a cache can be dropped and repeated."""
    layers = getattr(cache, "layers", None) or ()
    return len(layers) > 0 and all(hasattr(layer, "batch_select_indices") for layer in layers)
