"""Random projections of weights: show whether an exported tensor is right, and if not, why.

The projection of W [O, I] is W x [O, K] for fixed random x [I, K]: equal for equal weights, and linear,
so that the share of the adapter's update in an exported weight can be read off it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.exporting.weights.rotary import pairs_to_halves

K = 4
"""Random vectors of a projection."""
_SIGMAS = 6.0
"""A share of the update is off when it lies so many standard errors from 1."""
ROUNDING = {
    "F32": 2e-6,
    "F16": 1e-3,
    "BF16": 6e-3,
    "Q8_0": 0.015,
    "Q6_K": 0.04,
    "Q5_1": 0.06,
    "Q5_0": 0.06,
    "Q5_K": 0.06,
    "IQ4_NL": 0.14,
    "IQ4_XS": 0.14,
    "Q4_1": 0.14,
    "Q4_0": 0.16,
    "Q4_K": 0.14,
    "Q3_K": 0.3,
    "Q2_K": 0.6,
    "NF4": 0.16,
}
"""Largest error of a weight, over its size, that the number format explains: about twice the usual
one. Both are Frobenius norms, the error's by its projection."""


@dataclass(frozen=True, slots=True)
class WeightSketch:
    """Random projection of one weight of the trained model."""

    whole: Tensor
    """[O, K] base and update joined."""
    size: Tensor
    """[] the Frobenius norm of both joined. The projection's own is uncertain: weights lie along few
    directions, which K vectors meet by chance; errors of rounding lie along all."""
    update: Tensor | None = None
    """[O, K] of the update alone; None where the adapter changes nothing."""
    transposed: Tensor | None = None
    """[O, K] of the transposed weight, where it is square."""
    transposed_update: Tensor | None = None
    """[O, K] of the transposed update, where it is square."""

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the parts under names that `read_sketches` understands."""
        parts = {key: getattr(self, key) for key in self.__slots__}
        return {f"{key}:{name}": value for key, value in parts.items() if value is not None}


def read_sketches(tensors: Mapping[str, Tensor]) -> dict[str, WeightSketch]:
    """Return the sketches whose parts `WeightSketch.tensors` gave."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, name = key.partition(":")
        parts.setdefault(name, {})[kind] = value
    return {name: WeightSketch(**fields) for name, fields in parts.items()}


def random_vectors(width: int) -> Tensor:
    """Return the random x [I, K] for weights of `width` columns."""
    source = torch.Generator().manual_seed(width)
    return torch.randn(width, K, generator=source)


def projection(rows: Tensor) -> Tensor:
    """Return W x [O, K] of some rows of a weight; a vector is its own projection.

    Of more dimensions all but the last are rows: those of stacked experts follow each other.
    """
    if rows.ndim < 2:
        return rows.float().reshape(-1, 1)
    return (rows.float() @ random_vectors(rows.shape[-1])).flatten(0, -2)


def projection_of(blocks: Iterable[Tensor]) -> Tensor:
    """Return the projection of a weight that comes as runs of rows."""
    return torch.cat([projection(block) for block in blocks])


def adapted(base: Any) -> dict[str, Any]:
    """Return PEFT's layers of a model by the name of the weight that each changes."""
    return {
        f"{name.replace('.base_layer', '')}.{getattr(module, 'parameter_name', 'weight')}": module
        for name, module in base.named_modules()
        if hasattr(module, "get_base_layer")
    }


def trained_name(key: str) -> str:
    """Return the base's name of a weight that PEFT has beneath an adapter, or a trained copy of."""
    return re.sub(r"\.modules_to_save\.[^.]+\.", ".", key.replace(".base_layer.", "."))


def sketch_of(weight: Tensor, update: Tensor | None) -> WeightSketch:
    """Return the print of a weight whose adapter adds `update` to it."""
    if update is None:
        return sketch_over(weight, None, None)
    return sketch_over(
        weight, projection(update), projection(update.T) if _is_square(update) else None
    )


def sketch_over(
    weight: Tensor, update: Tensor | None, transposed_update: Tensor | None
) -> WeightSketch:
    """Return the print of a weight.

    Args:
        weight: of the base.
        update: [O, K] the projection of what is added to it.
        transposed_update: [O, K] that of the transposed update, where the weight is square.
    """

    def joined(plain: Tensor, added: Tensor | None) -> Tensor:
        return plain if added is None else plain + added

    weight = weight.float()
    plain = projection(weight)
    whole = joined(plain, update)
    transposed = joined(projection(weight.T), transposed_update) if _is_square(weight) else None
    # ‖W + U‖² = ‖W‖² + E ‖(W + U) x‖² - E ‖W x‖²: only the update's part is by chance
    more = (whole.square().sum() - plain.square().sum()) / whole.shape[1]
    norm: Tensor = torch.linalg.vector_norm(weight)
    size = (norm.square() + more).clamp_min(0).sqrt()
    return WeightSketch(whole, size, update, transposed, transposed_update)


def _is_square(weight: Tensor) -> bool:
    return weight.ndim == 2 and weight.shape[0] == weight.shape[1]


def fault(
    name: str, projected: Tensor, kind: str, sketches: Mapping[str, WeightSketch], head: int = 0
) -> str | None:
    """Return what is wrong with an exported weight, or None.

    Args:
        name: transformers'.
        projected: [O, K] its projection.
        kind: its number format, a key of `ROUNDING`.
        sketches: the sketches of the trained model.
        head: rows of an attention head, where the weight has heads.
    """
    right = sketches[name]
    if not projected.isfinite().all():
        return f"{name} holds values that are no numbers"
    if projected.shape != right.whole.shape:
        return f"{name} has {len(projected)} rows instead of {len(right.whole)}"
    away = _away(projected, right.whole, right.size)
    share = None if right.update is None else _share(projected, right)
    allowed = ROUNDING[kind]
    # Base weights that are themselves rounded lie on few values, and what is added to them turns
    # always to the same side. What so goes missing is part of the format's error and no larger.
    if away <= allowed and (
        share is None
        or not share.off
        or _away(share.fitted, right.whole, right.size) <= allowed / 2
    ):
        return None
    return f"{name} {_cause(name, projected, sketches, away, share, allowed, head)}"


@dataclass(frozen=True, slots=True)
class _Share:
    """Multiple of its update that an exported weight carries."""

    value: float
    error: float
    fitted: Tensor
    """[O, K] the projection of the weight with that multiple."""

    @property
    def off(self) -> bool:
        return abs(self.value - 1) > _SIGMAS * self.error + 0.01


def _share(projected: Tensor, right: WeightSketch) -> _Share:
    """Fit found = base + share · update by least squares over the rows of the projection."""
    update = right.update
    assert update is not None, "only for weights with an update"
    rest = (projected - (right.whole - update)).double().flatten()
    along = update.double().flatten()
    length = float(along @ along)
    if length == 0:
        return _Share(1.0, 0.0, right.whole)
    value = float(rest @ along) / length
    left = rest - value * along
    spread = float(left @ left) / max(1, len(left) - 1)
    return _Share(value, math.sqrt(spread / length), right.whole + (value - 1) * update)


def _cause(
    name: str,
    projected: Tensor,
    sketches: Mapping[str, WeightSketch],
    away: float,
    share: _Share | None,
    allowed: float,
    head: int,
) -> str:
    right = sketches[name]
    if right.transposed is not None and _away(projected, right.transposed, right.size) <= allowed:
        return "is transposed"
    for other, sketch in sketches.items():
        same = other != name and sketch.whole.shape == projected.shape
        if same and _away(projected, sketch.whole, sketch.size) <= min(allowed, 0.2):
            return f"holds the weight of {other}"
    head = 0 if len(right.whole) % max(head, 1) else head
    if head and _away(pairs_to_halves(projected, head), right.whole, right.size) <= allowed:
        return "has the rotary halves of its heads in the other order"
    if head and _away(projected, pairs_to_halves(right.whole, head), right.size) <= allowed:
        return "has the rotary halves of its heads in the other order"
    if right.transposed_update is not None and right.update is not None:
        swapped = right.whole - right.update + right.transposed_update
        if _away(projected, swapped, right.size) < away / 2:
            return "carries its update with A and B swapped"
    if share is not None and share.off and _away(projected, share.fitted, right.size) <= allowed:
        if abs(share.value) <= _SIGMAS * share.error + 0.05:
            return "is the base's: the adapter's update is missing"
        return (
            f"carries {share.value:.3g} times its update: alpha, rank or scale is wrong, or "
            "it is another run's"
        )
    return f"differs from the trained weight by {away:.2g} of its size"


def _away(projected: Tensor, right: Tensor, size: Tensor) -> float:
    """Return the size of the difference of two weights, by their images, over that of the right one."""
    gap: Any = torch.linalg.vector_norm((projected - right).double()) / math.sqrt(
        projected.shape[1]
    )
    return float(gap / size) if float(size) else float(gap)
