"""The way through the logits of a head in tiles of rows: products, gradients, what is kept.

What becomes of a tile of products is left to a `Scorer`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from strop.ops.linear_log_prob.log_probs import LogProbs

MOST_ROWS = 256
"""Of a tile of a large vocabulary: more gain nothing (two cores, 152 and 262 thousand tokens)."""
ALIGNED = 64
"""Numbers: rows of a tile begin at multiples of it, whatever V is, so that wide loads are possible."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one tile: targets, bias, upstream gradient and scores, beside their products."""

    targets: Tensor
    """[R] contiguous."""
    bias: Tensor | None
    """[V]"""
    upstream: Tensor | None
    """[R] the gradient of log_prob, contiguous; None stands for ones."""
    log_prob: Tensor
    """[R] contiguous; written, as the next two."""
    entropy: Tensor
    """[R] contiguous."""
    is_top1: Tensor
    """[R] contiguous."""


class Scorer(Protocol):
    """Function from a tile of products to scores."""

    def __call__(
        self, padded: Tensor, V: int, rows: Rows, settings: "Settings", *, gradient: bool
    ) -> Tensor:
        """Write the scores into `rows`; if `gradient`, return the products' gradient [R, V].

        Args:
            padded: [R, at least V] the products, then nothing; may be overwritten.
            V: the vocabulary.
            rows: see `Rows`.
            settings: the scale and the soft-cap count here.
            gradient: whether the result is looked at: upstream times the derivative of log_prob.
        """


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a call."""

    scale: float
    softcap: float | None
    grad_enabled: bool
    score: Scorer
    tile_rows: int
    """Most rows whose products are held at once."""
    slice_bytes: int
    """Of a head in a narrower dtype than the product's, what is widened at once."""


def tile_rows(vocabulary: int, width: int, tile_bytes: int) -> int:
    """Return the most rows of a tile of logits.

        max(B / 4 V, min(D / 4, 256))    for B bytes of a tile in float32, V tokens and width D

    Each tile reads the whole head, [V, D], which takes longer than the arithmetic on few rows. Where the
    vocabulary is large, a tile may therefore take up to a quarter of what the head takes.
    """
    return max(1, tile_bytes // (4 * vocabulary), min(width // 4, MOST_ROWS))


def run(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, settings: Settings
) -> LogProbs:
    """Return the scores of all rows; see `strop.ops.linear_log_prob`."""
    with torch.autocast(hidden.device.type, enabled=False):  # the dtypes of the tensors decide
        return LogProbs(*_LinearLogProb.apply(hidden, weight, bias, targets, settings))


def wide(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Return the dtype of the scores."""
    return torch.promote_types(_product_dtype(hidden, weight), torch.float32)


class _LinearLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: Settings,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden_needs, *head_needs = ctx.needs_input_grad[:3]
        head_trained = any(head_needs) and settings.grad_enabled
        hidden_only = hidden_needs and settings.grad_enabled and not head_trained
        scores = _scores(hidden, weight)
        dhidden = hidden.new_empty(hidden.shape) if hidden_only else None  # of log_prob, by row
        tiles = _Tiles(hidden, weight, bias, targets.contiguous(), settings)
        for rows in tiles.rows():
            dz = tiles.score(rows, scores, None, gradient=hidden_only)
            if dhidden is not None:
                dhidden[rows] = times_head(dz, weight, hidden.dtype, settings.slice_bytes)
        ctx.settings = settings
        if dhidden is not None:
            ctx.save_for_backward(dhidden)
        elif head_trained:
            ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.mark_non_differentiable(*scores[1:])
        return scores

    @staticmethod
    def backward(
        ctx: Any, dlog_prob: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        if len(ctx.saved_tensors) == 1:
            (dhidden,) = ctx.saved_tensors
            return (dhidden * dlog_prob[:, None]).to(dhidden.dtype), None, None, None, None
        return *_trained_head_backward(dlog_prob.contiguous(), ctx), None, None


def _trained_head_backward(
    dlog_prob: Tensor, ctx: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    hidden, weight, bias, targets = ctx.saved_tensors
    hidden_needs, weight_needs, bias_needs = ctx.needs_input_grad[:3]
    dhidden = hidden.new_empty(hidden.shape) if hidden_needs else None
    dweight = torch.zeros_like(weight, dtype=dlog_prob.dtype) if weight_needs else None
    dbias = torch.zeros_like(bias, dtype=dlog_prob.dtype) if bias_needs else None
    scores = _scores(hidden, weight)
    tiles = _Tiles(hidden, weight, bias, targets.contiguous(), ctx.settings)
    for rows in tiles.rows():
        dz = tiles.score(rows, scores, dlog_prob[rows], gradient=True)
        if dhidden is not None:
            dhidden[rows] = times_head(dz, weight, hidden.dtype, ctx.settings.slice_bytes)
        if dweight is not None:
            inputs = hidden[rows].to(dz.dtype)
            if dz.dtype == dweight.dtype:
                dweight.addmm_(dz.T, inputs)
            else:
                dweight += torch.mm(dz.T, inputs)
        if dbias is not None:
            dbias += dz.sum(0, dtype=dbias.dtype)
    return (
        dhidden,
        None if dweight is None else dweight.to(weight.dtype),
        None if dbias is None else dbias.to(bias.dtype),
    )


class _Tiles:
    """The rows of a call, a tile at a time, over one buffer: fresh pages for each would cost time."""

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        settings: Settings,
    ) -> None:
        self.hidden, self.weight, self.bias, self.targets = hidden, weight, bias, targets
        self.settings = settings
        M, V = len(hidden), len(weight)
        # All tiles have about the same number of rows, for a short last one would be slow.
        self.size = math.ceil(M / math.ceil(M / settings.tile_rows)) if M else 1
        width = math.ceil(V / ALIGNED) * ALIGNED
        self.buffer = hidden.new_empty(self.size, width, dtype=_product_dtype(hidden, weight))

    def rows(self) -> Iterator[slice]:
        """Yield the rows of each tile."""
        M = len(self.hidden)
        for start in range(0, M, self.size):
            yield slice(start, min(start + self.size, M))

    def score(
        self,
        rows: slice,
        scores: tuple[Tensor, Tensor, Tensor],
        upstream: Tensor | None,
        *,
        gradient: bool,
    ) -> Tensor:
        """Compute one tile; see `Scorer`. The result is valid until the next."""
        hidden = self.hidden[rows]
        padded = self.buffer[: len(hidden)]
        hidden, V = hidden.to(padded.dtype), len(self.weight)
        for tokens, dense in slices(self.weight, padded.dtype, self.settings.slice_bytes):
            torch.mm(hidden, dense.T, out=padded[:, tokens])
        tile = Rows(self.targets[rows], self.bias, upstream, *(score[rows] for score in scores))
        return self.settings.score(padded, V, tile, self.settings, gradient=gradient)


def _product_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, weight.dtype)


def _scores(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log_prob, entropy and is_top1 [M], to be written."""
    log_prob, entropy = hidden.new_empty((2, len(hidden)), dtype=wide(hidden, weight))
    return log_prob, entropy, log_prob.new_empty(len(hidden), dtype=torch.bool)


def slices(weight: Tensor, dtype: torch.dtype, slice_bytes: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield the head in `dtype`: as it is, or a slice of the vocabulary at a time."""
    V, D = weight.shape
    if weight.dtype == dtype:
        yield slice(0, V), weight
        return
    tokens = max(1, slice_bytes // (D * dtype.itemsize))
    buffer = weight.new_empty(min(tokens, V), D, dtype=dtype)
    for start in range(0, V, tokens):
        narrow = weight[start : start + tokens]
        yield slice(start, start + len(narrow)), buffer[: len(narrow)].copy_(narrow)


def times_head(dz: Tensor, weight: Tensor, dtype: torch.dtype, slice_bytes: int) -> Tensor:
    """Return dz [R, V] @ weight [V, D] in `dtype`."""
    product_dtype = torch.promote_types(dtype, weight.dtype)
    dz = dz.to(product_dtype)
    out: Tensor | None = None
    for tokens, dense in slices(weight, product_dtype, slice_bytes):
        if out is None:
            out = dz[:, tokens] @ dense
        else:
            out.addmm_(dz[:, tokens], dense)
    assert out is not None, "a head without tokens has no target"
    return out.to(dtype)
