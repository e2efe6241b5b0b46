"""How much the gradient of a batch owes to chance, from the gradients of its micro-batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(slots=True)
class GradientNoise:
    """Signal and noise of the mean gradient of the last batch that ran in several micro-batches.

    With g_i the gradient of the summed loss of the n_i tokens of micro-batch i, g = sum g_i, N = sum n_i,
    G the expected gradient of a token and S its covariance,

        signal = |G|^2     = (|g|^2 - sum |g_i|^2) / (N^2 - sum n_i^2)
        noise  = tr(S) / N = (sum |g_i|^2 - |G|^2 sum n_i^2) / N^2

    without bias for tokens drawn independently. noise / signal is the gradient noise scale in batches
    of this size; a single batch's is rough, so sums of both over steps are divided (McCandlish et al.
    2018, arXiv:1812.06162, appendix A.1). The squares are taken while gradients are added up anyway.
    """

    signal: float = math.nan
    """Squared norm of the expected gradient; may come out negative. NaN before the first such batch."""
    noise: float = math.nan
    """Squared distance of the batch's mean gradient from it, expected."""
    _squares: list[Tensor] = field(default_factory=list)

    def add(self, gradient: Tensor) -> None:
        """Take the gradient of one tensor in one micro-batch."""
        self._squares.append(_square(gradient))

    def finish(self, tokens: Sequence[int], whole: Sequence[Tensor | None]) -> None:
        """Take the gradient of the batch, and compute signal and noise.

        Args:
            tokens: targets of each micro-batch.
            whole: gradient of the summed loss, of each tensor.
        """
        pieces, self._squares = _total(self._squares), []
        batch = _total([_square(gradient) for gradient in whole if gradient is not None])
        count, squared = sum(tokens), sum(n * n for n in tokens)
        if count * count == squared:  # all targets are in one micro-batch
            self.signal = self.noise = math.nan
            return
        self.signal = (batch - pieces) / (count * count - squared)
        self.noise = (pieces - self.signal * squared) / (count * count)

    def logged(self) -> dict[str, float]:
        """Return what log.jsonl has of the last batch; nothing where it ran in one piece."""
        if math.isnan(self.signal):
            return {}
        values = {"gradient_signal": self.signal, "gradient_noise": self.noise}
        self.signal = self.noise = math.nan
        return values


def _square(gradient: Tensor) -> Tensor:
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return torch.linalg.vector_norm(gradient, dtype=wide).square()


def _total(squares: Sequence[Tensor]) -> float:
    """Return the sum of scalars, moved to the CPU together."""
    return float(torch.stack(tuple(squares)).cpu().double().sum()) if squares else 0.0
