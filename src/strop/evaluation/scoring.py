"""The log-probabilities of given answers under a model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from strop.core.tokens import IGNORE_INDEX
from strop.forward.compact import install


@torch.no_grad()
def score(
    model: nn.Module,
    examples: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    micro_batch_tokens: int = 4096,
) -> list[Tensor]:
    """Return the log-probability of every labelled token of every example, sharing prefixes.

    Args:
        model: a causal language model of transformers, with or without PEFT's wrapper.
        examples: pairs of token ids and labels of equal length, -100 where nothing is asked.
        micro_batch_tokens: largest number of tokens computed at once.

    Returns:
        For each example one float tensor: the labelled tokens' log-probabilities, in order.
    """
    compact, undo = install(model, micro_batch_tokens=micro_batch_tokens)
    try:
        T = max(len(ids) for ids, _ in examples)
        shape = (len(examples), T)
        ids, labels = torch.zeros(shape, dtype=torch.int64), torch.full(shape, IGNORE_INDEX)
        mask = torch.zeros(shape, dtype=torch.int64)
        for b, (tokens, targets) in enumerate(examples):
            ids[b, : len(tokens)], mask[b, : len(tokens)] = torch.tensor(tokens), 1
            labels[b, : len(tokens)] = torch.tensor(targets)
        device = next(model.parameters()).device
        batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        output = compact(True, labels.to(device), batch)
    finally:
        undo()
    return [
        row[labelled] for row, labelled in zip(output.log_probs, output.label_mask, strict=True)
    ]
