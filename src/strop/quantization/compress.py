"""The pass that quantises: block by block, each on what the quantised blocks before it give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from strop.core.progress import Progress
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed
from strop.quantization.block import Decoder
from strop.quantization.calibration import Grams, LayerStats
from strop.quantization.comparison import Comparison, compare
from strop.quantization.error_adapter import Correction, correction
from strop.quantization.formats import NF4, Format
from strop.quantization.gram import feedback
from strop.quantization.linear_layers import watching_inputs
from strop.quantization.matrix import quantize

Baseline = Callable[[str, Tensor], Tensor]
"""From a layer's name and its weight to the weight as it would be stored, in float32."""
BASELINE_GROUP = 64


def plain_nf4(name: str, weight: Tensor) -> Tensor:
    """Return a weight as NF4 in blocks of 64 stores it, its scales exact, in float32.

    Double quantisation of the scales, which the bytes are counted with, would add a little error.
    """
    table = torch.tensor(NF4, device=weight.device)
    x = nn.functional.pad(weight.float().flatten(), (0, -weight.numel() % BASELINE_GROUP))
    x = x.view(-1, BASELINE_GROUP)
    scale = x.abs().amax(1, keepdim=True)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    codes = torch.bucketize(x / scale, (table[1:] + table[:-1]) / 2)
    return (table[codes] * scale).flatten()[: weight.numel()].view(weight.shape)


BASELINES: Mapping[str, Baseline] = {"nf4": plain_nf4}


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The text for calibration, and what it tells."""

    entering: Sequence[Tensor]
    """[1, T, D] of each sequence, before the first block."""
    layers: Mapping[str, LayerStats] | None = None
    """Without it every token counts alike."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Text that nothing was chosen by."""

    entering: Sequence[Tensor]
    """[1, T, D] of each sequence, before the first block."""
    tokens: Sequence[Tensor]
    """[T] of each sequence."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """What became of the linear layers, and what that does to the model."""

    packed: dict[str, Packed]
    corrections: dict[str, Correction]
    """Adapters that make good for part of the error; empty where none were asked for."""
    measured: dict[str, Comparison]
    """On the held-out text, if there is any: "original", each baseline, "strop", and
    "strop_with_adapter"."""

    @property
    def strop(self) -> Comparison:
        """Return what the quantised model was measured to do."""
        return self.measured["strop"]


@torch.no_grad()
def compress(
    decoder: Decoder,
    calibrated: Calibrated,
    held_out: HeldOut | None,
    chosen: Mapping[str, Format],
    progress: Progress,
    baselines: Mapping[str, Baseline] = BASELINES,
    rank: int = 0,
) -> Compressed:
    """Quantise every chosen layer that the text passes; measure the result beside plain NF4.

    Args:
        decoder: the unquantised model, which stays as it is.
        calibrated: what errors are fed back by.
        held_out: what is measured on; None measures nothing.
        chosen: the format of each layer by its name.
        progress: called with each stage.
        baselines: other ways to store a layer, measured on the same text.
        rank: of adapters that make good for part of the error; 0 makes none.
    """
    packed: dict[str, Packed] = {}
    corrections: dict[str, Correction] = {}
    hidden = list(calibrated.entering)
    ways = ("original", *baselines, "strop", *(("strop_with_adapter",) if rank else ()))
    streams = {name: list(held_out.entering) if held_out else [] for name in ways}
    for i in range(len(decoder.blocks)):
        block, grams = decoder.copied(i), Grams(calibrated.layers)
        with watching_inputs(block.linears, grams.take):
            for rows in hidden:
                block(rows)
        linears = {
            name: of for name, of in block.linears.items() if name in chosen and name in grams
        }
        streams["original"] = [block(rows) for rows in streams["original"]]
        for baseline, stored in (baselines if held_out else {}).items():
            with _restored_weights(linears):
                for name, linear in linears.items():
                    linear.weight.copy_(stored(name, linear.weight))
                streams[baseline] = [block(rows) for rows in streams[baseline]]
        block_packed, block_corrections = _stored(linears, grams, chosen, rank)
        streams["strop"] = [block(rows) for rows in streams["strop"]]
        hidden = [block(rows) for rows in hidden]
        packed |= block_packed
        corrections |= block_corrections
        if rank:
            for name, added in block_corrections.items():
                linears[name].weight.addmm_(added.b, added.a)
            streams["strop_with_adapter"] = [block(rows) for rows in streams["strop_with_adapter"]]
        progress("quantising", i + 1, len(decoder.blocks))
    original, measured = streams.pop("original"), {}
    if held_out:
        measured = compare(decoder.logits, original, streams, held_out.tokens)
    return Compressed(packed, corrections, measured)


def _stored(
    linears: Mapping[str, nn.Linear], grams: Grams, chosen: Mapping[str, Format], rank: int
) -> tuple[dict[str, Packed], dict[str, Correction]]:
    """Quantise layers and give each the weight that is stored; return it, and its correction."""
    packed: dict[str, Packed] = {}
    corrections: dict[str, Correction] = {}
    factors: dict[str, Tensor] = {}
    for name, linear in linears.items():
        group = grams.group(name)
        if group not in factors:
            factors[group] = feedback(grams[name])
        packed[name] = quantize(linear.weight, chosen[name], feedback=factors[group])
        before = linear.weight.clone() if rank else linear.weight
        dequantize(packed[name], out=linear.weight)
        if rank:
            columns = min(rank, *before.shape)
            corrections[name] = correction(before - linear.weight, grams[name], columns)
    return packed, corrections


@contextmanager
def _restored_weights(linears: Mapping[str, nn.Linear]) -> Iterator[None]:
    weights = {name: linear.weight.clone() for name, linear in linears.items()}
    try:
        yield
    finally:
        for name, linear in linears.items():
            linear.weight.copy_(weights[name])
