"""The inputs of a linear layer, as their Gram matrix, and what follows from it for rounding."""

import torch
from torch import Tensor

DAMPING = 0.01
"""Share of the mean energy that is added to every input's: as in GPTQ, arXiv:2210.17323."""


def damped(gram: Tensor) -> Tensor:
    """Return a Gram matrix [D, D] with `DAMPING` of its mean diagonal added to the diagonal."""
    mean = gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny)
    return gram + torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * (DAMPING * mean)


def feedback(gram: Tensor) -> Tensor:
    """Return U [D, D], upper triangular, with U^T U = (G + damping)^-1.

    An error e at column j is made good for, as far as the later columns can, by moving each later
    column k by -e U[j, k] / U[j, j]; what remains costs e**2 / U[j, j]**2.

    Args:
        gram: [D, D] mean of x x^T over the inputs.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(gram.double())))
    return torch.linalg.cholesky(inverse, upper=True).float()
