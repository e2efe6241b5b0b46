"""Scales channels between weights, so that in a block a large one costs the others no precision."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.exporting.gguf.architectures import GGUF_ARCHITECTURES, GgufArchitecture
from strop.exporting.weights.tuned import Update

CHANNELS_SCALED = "strop.channels_scaled"
"""Field of a GGUF file whose channels are scaled."""
_LEAST = 1e-6
"""Floor of a channel's mean square, over the mean of its input's."""


@dataclass(frozen=True, slots=True)
class ScaledPair:
    """A tensor and those that read its outputs, with nothing between that a scale does not pass."""

    source: str
    """A norm's weight, or a linear one, which scale along their outputs."""
    readers: tuple[str, ...]
    """Weights that read those outputs, and nothing else."""
    first: int = 0
    """Outputs before those that are read."""


def scaled_pairs(
    activation_stats: Mapping[str, Tensor], family: GgufArchitecture
) -> Iterator[ScaledPair]:
    """Yield the scaled_pairs between the tensors of a model with norms before attention and MLP.

    Args:
        activation_stats: by the names of the weights that read something, transformers'.
        family: of the model.
    """
    for down in sorted(name for name in activation_stats if name.endswith(".mlp.down_proj.weight")):
        block = down.removesuffix("mlp.down_proj.weight")
        asking = (f"{block}self_attn.{kind}_proj.weight" for kind in ("q", "k", "v", "qkv"))
        entering = (f"{block}mlp.{kind}_proj.weight" for kind in ("gate", "up", "gate_up"))
        up, both = (f"{block}mlp.{kind}_proj.weight" for kind in ("up", "gate_up"))
        readers = tuple(name for name in asking if name in activation_stats)
        yield ScaledPair(f"{block}input_layernorm.weight", readers)
        readers = tuple(name for name in entering if name in activation_stats)
        yield ScaledPair(f"{block}{family.mlp_norm}.weight", readers)
        yield (
            ScaledPair(up, (down,))
            if up in activation_stats
            else ScaledPair(both, (down,), len(activation_stats[down]))
        )
    if "lm_head.weight" in activation_stats:
        inner = any(name.startswith("model.language_model.") for name in activation_stats)
        norm = "model.language_model.norm.weight" if inner else "model.norm.weight"
        yield ScaledPair(norm, ("lm_head.weight",))


class ChannelScaling:
    """Scales that tensors' outputs are multiplied by, and inputs of their readers divided by.

        W x = (W / t) (t x),   t_j = x_j^(-1/2) / geometric mean,   x_j^2 = energy of channel j

    llama.cpp multiplies a Q8_0 weight by inputs that it rounds to Q8_0 as well. A block of 32
    channels has one scale, so that a large channel takes its neighbours' precision, and in the
    inputs some are a thousand times as large as others. With t they differ by the square root of
    that, and so do the columns of the weight by what their errors count for. The function stays.
    SmoothQuant (arXiv:2211.10438) and AWQ (arXiv:2306.00978) scale likewise, to other powers.
    Besides, a base that lies on few levels no longer lies on few of Q8_0's, so that small updates
    are not lost. In fewer bits the weights' own errors are what counts, and weighing those by the
    activation statistics does more (`gguf_types.encode`).
    """

    def __init__(self, activation_stats: Mapping[str, Tensor], config: Any) -> None:
        """Compute per-channel scales from activation mean squares.

        Args:
            activation_stats: [I] mean squares of what weights read, by transformers' names; without any,
                nothing is scaled.
            config: of the model.
        """
        self.activation_stats = activation_stats
        self._outputs: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}
        if (family := GGUF_ARCHITECTURES.get(config.model_type)) is None:
            return  # no file of it is written
        self._offset = float(family.unit_offset)
        for pair in scaled_pairs(activation_stats, family):
            energy = activation_stats[pair.readers[0]]
            least = _LEAST * float(energy.mean()) or 1.0  # of an input that is never more than 0
            logs = energy.double().clamp_min(least).log() / -4
            scale = (logs - logs.mean()).exp().float()
            self._inputs |= dict.fromkeys(pair.readers, scale)
            self._outputs[pair.source] = torch.cat([torch.ones(pair.first), scale])

    def __bool__(self) -> bool:
        """Return whether anything is scaled."""
        return bool(self._inputs)

    def __contains__(self, name: str) -> bool:
        """Return whether outputs or inputs of a tensor are scaled."""
        return name in self._outputs or name in self._inputs

    def apply(self, name: str, rows: Tensor, start: int = 0) -> Tensor:
        """Return rows `start` and following of a tensor, scaled."""
        if (scale := self._outputs.get(name)) is not None:
            part = scale[start : start + len(rows)]
            is_norm = rows.ndim == 1
            rows = self._scaled_norm(rows, part) if is_norm else rows * part[:, None]
        inputs = self._inputs.get(name)
        return rows if inputs is None else rows / inputs

    def _scaled_norm(self, weight: Tensor, scale: Tensor) -> Tensor:
        return (weight + self._offset) * scale - self._offset

    def update(self, name: str, update: Update) -> Update:
        """Return what is added to a weight, scaled."""
        scale, inputs = self._outputs.get(name), self._inputs.get(name)
        return Update(
            update.A if inputs is None else update.A / inputs,
            update.B if scale is None else update.B * scale[:, None],
            update.scale,
        )
