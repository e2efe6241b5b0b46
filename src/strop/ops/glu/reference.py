"""Gated linear unit in plain PyTorch: the definition."""

import torch.nn.functional as F
from torch import Tensor


def glu(gate_up: Tensor, activation: str) -> Tensor:
    """See `strop.ops.glu`."""
    gate, up = gate_up.chunk(2, dim=-1)
    if activation == "silu":
        return F.silu(gate) * up
    return F.gelu(gate, approximate="tanh" if activation == "gelu_tanh" else "none") * up
