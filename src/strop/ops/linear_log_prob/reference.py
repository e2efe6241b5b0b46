"""Log-probabilities under a head in plain PyTorch: the definition, with all logits at once."""

import torch
from torch import Tensor

from strop.ops.linear_log_prob.log_probs import LogProbs


def linear_log_prob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
) -> LogProbs:
    """See `strop.ops.linear_log_prob`."""
    dtype = torch.promote_types(hidden.dtype, weight.dtype)
    product = hidden.to(dtype) @ weight.to(dtype).T  # [M, V]
    logits = product.to(torch.promote_types(dtype, torch.float32))
    if bias is not None:
        logits = logits + bias
    logits = logits * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    log_probs = logits.log_softmax(-1)
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        is_top1 = logits.argmax(-1) == targets
    return LogProbs(log_probs.gather(-1, targets[:, None])[:, 0], entropy, is_top1)
