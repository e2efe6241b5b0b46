"""Hidden rows of a batch, and scores of them that are no log-probabilities: divergences, rewards."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop.core.tokens import IGNORE_INDEX
from strop.forward.compact import CompactForward
from strop.forward.compaction import CompactBatch
from strop.forward.micro_batches import Scores, score_micro_batches

ScoreRows = Callable[[Tensor, CompactBatch], Tensor]
"""Returns a number [M] for each hidden row [M, D], differentiable in the rows."""


def score_rows(
    compact: CompactForward,
    labels: Tensor,
    inputs: dict[str, Any],
    score: ScoreRows,
    *,
    trained: Sequence[Tensor] = (),
    linear_loss: bool = True,
) -> Tensor | None:
    """Return what `score` gives for each label, 0 where there is none: [B, T - 1].

    Args:
        compact: of the model.
        labels: [B, T]
        inputs: of the model's forward, without labels.
        score: of one micro-batch.
        trained: tensors beside those of the model that need a gradient.
        linear_loss: the loss is a constant times the sum of the scores.

    Returns:
        None where the batch has no compact form, which is logged once.
    """
    compact.calls += 1
    prepared = compact.prepared(labels, inputs)
    if isinstance(prepared, str):
        compact.report(prepared)
        return None
    micro_batches, way = prepared

    def scores(batch: CompactBatch) -> Scores:
        hidden = compact.backbone(batch, one_by_one=way.name == "rows")
        values = score(hidden, batch)
        return Scores(values, values.detach(), values.detach())

    shape = labels[:, 1:].shape
    tensors = [*(p for p in compact.model.parameters() if p.requires_grad), *trained]
    spread = score_micro_batches(
        scores, micro_batches, shape.numel(), tensors, linear_loss=linear_loss
    )
    return spread.log_prob.view(shape)


@torch.no_grad()
def hidden_rows(compact: CompactForward, labels: Tensor, inputs: dict[str, Any]) -> Tensor:
    """Return the hidden row that predicts each label, in their order: [M, D].

    Args:
        compact: of the model.
        labels: [B, T]
        inputs: `input_ids` and `attention_mask`.
    """
    mask = labels[:, 1:] != IGNORE_INDEX
    prepared = compact.prepared(labels, inputs)
    if isinstance(prepared, str):
        compact.report(prepared)
        decoded: Tensor = compact.model.base_model(**inputs, use_cache=False).last_hidden_state
        return decoded[:, :-1][mask]
    micro_batches, way = prepared
    parts = [compact.backbone(b, one_by_one=way.name == "rows") for b in micro_batches]
    if not parts:
        embedding: Tensor = compact.model.get_input_embeddings().weight
        return embedding.new_zeros(0, embedding.shape[1])
    order = label_order(mask)[torch.cat([batch.slots for batch in micro_batches])]
    rows = torch.cat(parts)
    return torch.empty_like(rows).index_copy_(0, order, rows)


def label_order(mask: Tensor) -> Tensor:
    """Return for each slot of the grid [B, T - 1] which label it is, counted from 0."""
    return mask.flatten().cumsum(0) - 1
