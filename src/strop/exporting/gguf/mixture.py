"""GGUF formats chosen tensor by tensor within a budget of bytes, by what errors cost the model."""

import functools
import math
from dataclasses import dataclass

from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from strop.exporting.gguf import types as gguf_types
from strop.exporting.weights.sensitivity import Sensitivity, Stored, total
from strop.quantization.allocation import Knapsack, Option

KINDS = (
    *(Type.Q3_K, Type.IQ4_XS, Type.IQ4_NL, Type.Q4_K, Type.Q4_1),
    *(Type.Q5_0, Type.Q5_K, Type.Q5_1, Type.Q6_K, Type.Q8_0),
)
"""Formats to choose from, where their blocks divide a row."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """A format for each matrix, and by what errors in it are weighed; keys are tensors' names."""

    types: dict[str, Type]
    importance: dict[str, Tensor]
    """[D]"""
    expected_kl: float
    """Nats per token."""


def plain_bytes(shapes: dict[str, tuple[int, ...]]) -> int:
    """Return what matrices take in Q4_0, the measure of a budget."""
    return sum(stored_bytes(Type.Q4_0, shape) for shape in shapes.values() if len(shape) > 1)


def stored_bytes(kind: Type, shape: tuple[int, ...]) -> int:
    """Return the bytes of a tensor in a format, or in what stands in for it."""
    fits = gguf_types.fitting(kind, shape)
    return math.prod(shape[:-1]) * gguf_types.row_bytes(fits, shape[-1])


def mixture(sensitivity: Sensitivity, shapes: dict[str, tuple[int, ...]], budget: float) -> Mixture:
    """Return the formats of least expected KL within so many times the bytes of Q4_0.

    Args:
        sensitivity: calibrated costs of errors.
        shapes: of the tensors that are to be written, by transformers' names.
        budget: times the bytes of all matrices in Q4_0.

    Raises:
        ConfigError: no choice is so small.
    """
    matrices = {name: shape for name, shape in shapes.items() if len(shape) > 1}
    importance = _importance(sensitivity, matrices)
    costs = _costs(sensitivity, matrices, importance)
    options = {
        name: [Option(k, stored_bytes(Type[k], matrices[name]), kl) for k, kl in cost.items()]
        for name, cost in costs.items()
    }
    rest = sum(stored_bytes(Type.Q8_0, s) for n, s in matrices.items() if n not in options)
    chosen = Knapsack(options).within(int(budget * plain_bytes(matrices)) - rest)
    types = {name: Type[option.format] for name, option in chosen.items()}
    defaults = {name: gguf_types.fitting(Type.Q8_0, s) for name, s in matrices.items()}
    return Mixture(defaults | types, importance, sum(option.kl for option in chosen.values()))


def _importance(
    sensitivity: Sensitivity, matrices: dict[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    activation_stats = {
        f"{name}.weight": layer.energy for name, layer in sensitivity.layers.items()
    }
    activation_stats[_stored_head(sensitivity, matrices)] = sensitivity.table.hidden.square().mean(
        0
    )
    return {name: energy for name, energy in activation_stats.items() if name in matrices}


def _stored_head(sensitivity: Sensitivity, matrices: dict[str, tuple[int, ...]]) -> str:
    """Return the name under which the head is stored, which may be the embedding's."""
    table = sensitivity.table
    return table.head if table.head in matrices else table.entering


def _costs(
    sensitivity: Sensitivity, matrices: dict[str, tuple[int, ...]], importance: dict[str, Tensor]
) -> dict[str, dict[str, float]]:
    """Return what each format that fits is expected to cost each matrix."""
    costs: dict[str, dict[str, float]] = {}
    for name in sensitivity.layers:
        tensor = f"{name}.weight"
        kinds = _kinds(matrices[tensor], importance.get(tensor))
        if kinds:
            costs[tensor] = sensitivity.layer_harm(name, kinds)
    entering, head = sensitivity.table.entering, _stored_head(sensitivity, matrices)
    for tensor in dict.fromkeys((entering, head)):
        kinds = _kinds(matrices[tensor], importance.get(tensor)) if tensor in matrices else {}
        if not kinds:
            continue
        parts = [
            harms(kinds)
            for name, harms in (
                (entering, sensitivity.embedding_harm),
                (head, sensitivity.head_harm),
            )
            if name == tensor
        ]
        costs[tensor] = total(parts)
    return costs


def _kinds(shape: tuple[int, ...], importance: Tensor | None) -> dict[str, Stored]:
    """Return the formats whose blocks divide a matrix' rows."""
    fits = [kind for kind in KINDS if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0]
    return {kind.name: functools.partial(_stored, kind, importance) for kind in fits}


def _stored(kind: Type, importance: Tensor | None, rows: Tensor) -> Tensor:
    return gguf_types.decode(gguf_types.encode(rows, kind, importance), kind)
