"""The low-rank matrix that makes good for most of what quantisation did to a layer's output."""

from dataclasses import dataclass

import torch
from torch import Tensor

from strop.quantization.gram import damped

OVERSAMPLED = 8
"""Columns beyond the rank that the randomised decomposition looks at."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A low-rank matrix B A, as an adapter holds it."""

    a: Tensor
    """[R, D]"""
    b: Tensor
    """[E, R]"""


def correction(error: Tensor, gram: Tensor, rank: int) -> Correction:
    """Return the matrix of so many ranks that is nearest to the error in the layer's output.

        minimise over C of rank R   E |(error - C) x|**2 = |(error - C) L|_F**2,   G = L L^T
        C = SVD_R(error L) L^-1

    (QERA, arXiv:2410.06040; CLoQ, arXiv:2501.18475.) A's rows see inputs as an ordinary start of
    LoRA sees them, E (a x)^2 = tr(G) / 3 D, and each another part of them; B has the singular
    values.

    Args:
        error: [E, D] the weight less what is stored of it.
        gram: [D, D] mean of x x^T over the inputs.
        rank: R, at most the smaller of D and E.
    """
    root = torch.linalg.cholesky(damped(gram.double()))  # L, lower triangular
    u, s, v = _leading((error.double() @ root).float(), rank)
    size = (gram.diagonal().mean() / 3).sqrt().clamp_min(torch.finfo(gram.dtype).tiny)
    a = torch.linalg.solve_triangular(root.T, v.double() * size, upper=True).T
    return Correction(a.float().contiguous(), (u * s / size).contiguous())


def _leading(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the leading singular vectors and values, by two rounds of subspace iteration."""
    rng = torch.Generator(matrix.device).manual_seed(0)
    width = min(rank + OVERSAMPLED, *matrix.shape)
    seen = matrix @ torch.randn(
        matrix.shape[1], width, generator=rng, device=matrix.device, dtype=matrix.dtype
    )
    for _ in range(2):
        seen = matrix @ (matrix.T @ torch.linalg.qr(seen).Q)
    basis = torch.linalg.qr(seen).Q
    u, s, vh = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ u[:, :rank], s[:rank], vh[:rank].T
