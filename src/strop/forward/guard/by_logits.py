"""Log-probabilities from the logits of a model's own forward, each row whole and by itself."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from strop.core.tokens import IGNORE_INDEX
from strop.forward.guard.probe import Batch


def log_probs_by_logits(forward: Callable[..., Any], batch: Batch) -> Tensor:
    """Return the log-probability [B, T - 1] of every label, zero where there is none.

    Args:
        forward: of a causal language model of transformers; it gives logits [1, n, V].
        batch: its rows may have padding on either side.
    """
    ids, labels, mask = batch.input_ids, batch.labels, batch.mask
    rows = []
    for b in range(len(ids)):
        at = torch.arange(ids.shape[1]) if mask is None else mask[b].nonzero()[:, 0]
        at = at.to(ids.device)
        row = ids[b, at][None]
        out = forward(input_ids=row, attention_mask=torch.ones_like(row), use_cache=False)
        logits = out.logits[0, :-1]
        targets = labels[b, at[1:]]
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        scored = wide.gather(-1, targets.clamp(min=0)[:, None])[:, 0] * (targets != IGNORE_INDEX)
        rows.append(scored.new_zeros(ids.shape[1] - 1).index_copy(0, at[1:] - 1, scored))
    return torch.stack(rows)
