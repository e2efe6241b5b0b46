"""Faults of a batch or of a model, each named with its row or its tensor."""

from typing import Any

import torch
from torch import Tensor, nn

from strop.core.dataless import has_data
from strop.core.errors import DataError
from strop.core.tokens import IGNORE_INDEX, context_length

OFFSET = 2
"""Extra rows of some tables of positions, as OPT's."""


def check_batch(
    model: Any,
    input_ids: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    position_ids: Tensor | None,
) -> None:
    """Raise DataError if a batch does not fit the model.

    Args:
        model: a causal language model of transformers.
        input_ids: [B, T]
        labels: [B, T]
        mask: [B, T] or None.
        position_ids: [B, T] or None; they restart where packed documents meet.

    Raises:
        DataError: a row is longer than the context, or a token or label is not in the vocabulary.
    """
    _check_context(model, input_ids, mask, position_ids)
    V = model.get_output_embeddings().weight.shape[0]
    wrong = (labels >= V) | ((labels < 0) & (labels != IGNORE_INDEX))
    _refuse(wrong, "label", labels, f"labels are -100 or from 0 to {V - 1}, the model's vocabulary")
    rows = model.get_input_embeddings().weight.shape[0]
    wrong = (input_ids >= rows) | (input_ids < 0)
    if mask is not None and mask.shape == wrong.shape:
        wrong = wrong & (mask != 0)
    _refuse(wrong, "token id", input_ids, f"the model has tokens 0 to {rows - 1}")


def _check_context(
    model: Any, input_ids: Tensor, mask: Tensor | None, position_ids: Tensor | None
) -> None:
    limit = context_length(model.config)
    if (
        limit is None
        or not input_ids.numel()
        or (position_ids is None and len(input_ids[0]) <= limit)
    ):
        return
    if position_ids is not None:
        lengths = position_ids.max(-1).values + 1
    elif mask is not None:
        lengths = (mask != 0).sum(-1)
    else:
        lengths = torch.full((1,), input_ids.shape[1])
    row = int(lengths.argmax())
    if int(lengths[row]) > limit and _has_table_of_positions(model, limit):
        raise DataError(
            f"row {row} of the batch has {int(lengths[row])} tokens; this model's context is "
            f"{limit}. Shorten the rows, for example with max_length={limit}"
        )


def _has_table_of_positions(model: Any, limit: int) -> bool:
    """Return whether a module looks positions up in a table; rotary angles are computed for any."""
    words = model.get_input_embeddings(), model.get_output_embeddings()
    tables: list[Tensor] = []
    for module in model.modules():
        if hasattr(module, "make_weights"):  # a sinusoidal table that grows
            continue
        if isinstance(module, nn.Embedding) and module not in words:
            tables.append(module.weight)
        tables += [b for b in module.buffers(recurse=False) if b.ndim > 1]
    return any(limit <= n <= limit + OFFSET for t in tables for n in t.shape)


def _refuse(wrong: Tensor, what: str, values: Tensor, rule: str) -> None:
    if wrong.any():
        row, place = (int(i) for i in wrong.nonzero()[0])
        raise DataError(
            f"row {row} has the {what} {int(values[row, place])} at token {place}; {rule}"
        )


def check_finite(model: Any, log_probs: Tensor) -> None:
    """Raise DataError naming the tensor at fault if a log-probability is no number.

    Costs one sum; the parameters are read only when it is not finite. An overflow between sound
    parameters is left to the trainer, whose loss shows it.

    Raises:
        DataError: a parameter or a buffer holds NaN or infinity.
    """
    if not has_data(log_probs) or log_probs.detach().sum().isfinite():
        return
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or tensor.isfinite().all():
            continue
        place = (~tensor.isfinite()).nonzero()[0].tolist()
        remedy = (
            "training has diverged, start again with a lower learning rate"
            if tensor.requires_grad
            else "the weights are damaged, load them again from a sound file"
        )
        value = float(tensor[tuple(place)])
        raise DataError(f"the loss is no number, for {name} holds {value} at {place}: {remedy}")
