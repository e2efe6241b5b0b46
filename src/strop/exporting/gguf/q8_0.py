"""Q8_0 rounding that preserves small LoRA updates, by error feedback as in GPTQ."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strop.exporting.weights.tuned import Update
from strop.ops.round_columns import round_columns

BLOCK, LARGEST = 32, 127
_HALF = LARGEST + 1
_TABLE = (torch.arange(2 * _HALF) - _HALF).float() / _HALF
_ONE = torch.ones(1)


class ErrorFeedback:
    """Rounds a weight so that errors along the inputs that its update reads stay small.

        minimise   |M e|^2 + |e|^2   for each row,   e = w - d code,   d = max |w| of 32 / 127
        M^T M = A^T B^T B A, scaled to a mean diagonal of 1

    An update is often smaller than half a step. Added to a base that lies on few levels, as one from
    4 bits does, it is turned always the same way, mostly to nothing, and what is lost lies along the
    very inputs that training found to matter. Here column after column is rounded and what remains
    wrong along M moves the columns that follow, as GPTQ (arXiv:2210.17323) does for the inputs
    of a text; these need none. By rank one steps instead of a matrix [I, I]:

        w_k <- w_k + m_k . p      p <- p + (I + sum_{j > k} m_j m_j^T)^-1 m_k e_k

    Other inputs count as much as all that the update reads, so that the error as a whole stays about
    that of rounding to the nearest.
    """

    def __init__(self, update: Update) -> None:
        """Prepare for a weight's update, the number of whose inputs 32 divides."""
        mixed = torch.linalg.qr(update.B).R @ update.A  # [R, I]
        size = mixed.square().sum(0).mean().sqrt()
        self._mixed = mixed / size.clamp_min(torch.finfo(size.dtype).tiny)
        outer = torch.einsum("ri,si->irs", self._mixed, self._mixed).double()
        later = outer.flip(0).cumsum(0).flip(0) - outer
        later += torch.eye(len(mixed), dtype=torch.float64)
        passed = torch.linalg.solve(later, self._mixed.T.double()[..., None])
        self._passed = passed[..., 0].float()  # [I, R]

    def q8_0(self, rows: Tensor) -> NDArray[np.uint8]:
        """Return rows of the weight [N, I] float32 as Q8_0's bytes, [N, I / 32 * 34]."""
        N, D = rows.shape
        scale = (rows.view(N, -1, BLOCK).abs().amax(-1) / LARGEST).half()  # [N, I / 32]
        step = torch.where(scale == 0, 1.0, scale.float())
        columns, wrong = rows.T.contiguous(), torch.zeros(len(self._mixed), N)
        codes = torch.empty(D, N, dtype=torch.int8)
        for start in range(0, D, BLOCK):
            part, mixed = slice(start, start + BLOCK), self._mixed[:, start : start + BLOCK]
            feedback = torch.eye(BLOCK) - (self._passed[part] @ mixed).triu(1)
            rounded = round_columns(
                torch.addmm(columns[part], mixed.T, wrong), torch.ones(BLOCK), feedback,
                step[:, start // BLOCK] * _HALF, _TABLE, _ONE, _ONE,
            )  # fmt: skip
            codes[part] = (rounded.codes.short() - _HALF).clamp_min(-LARGEST)
            wrong.addmm_(self._passed[part].T, rounded.errors)
        blocks = codes.T.reshape(N, -1, BLOCK)
        stored = [part.contiguous().numpy().view(np.uint8) for part in (scale[..., None], blocks)]
        return np.concatenate(stored, axis=-1).reshape(N, -1)
