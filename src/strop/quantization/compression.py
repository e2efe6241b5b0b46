"""The pass that quantises: block by block, each on what the quantised blocks before it give."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from strop.core.errors import DataError
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed
from strop.quantization.calibration import Grams, Tell
from strop.quantization.comparison import Comparison, compare
from strop.quantization.decoder import Decoder
from strop.quantization.formats import FORMATS, NF4
from strop.quantization.gram import feedback
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
    measured: dict[str, Comparison]
    """On the held-out text: "original", each baseline, and "strop"."""

    @property
    def strop(self) -> Comparison:
        """Return what the quantised model was measured to do."""
        return self.measured["strop"]


@torch.no_grad()
def compress(
    decoder: Decoder,
    entering: Sequence[Tensor],
    held_out: HeldOut,
    chosen: Mapping[str, str],
    tell: Tell,
    baselines: Mapping[str, Baseline] = BASELINES,
) -> Compressed:
    """Quantise every chosen layer and measure the result beside plain NF4.

    Args:
        decoder: the unquantised model, which stays as it is.
        entering: [1, T, D] of each calibration sequence, before the first block.
        held_out: what is measured on.
        chosen: the format of each layer by its name.
        tell: is told how far it is.
        baselines: other ways to store a layer, measured on the same text.
    """
    packed: dict[str, Packed] = {}
    hidden = list(entering)
    streams = {name: list(held_out.entering) for name in ("original", *baselines, "strop")}
    for i in range(len(decoder.blocks)):
        block, grams = decoder.copied(i), Grams()
        with block.inputs(grams.take):
            for rows in hidden:
                block(rows)
        layers = {name: layer for name, layer in block.linears.items() if name in chosen}
        streams["original"] = [block(rows) for rows in streams["original"]]
        for baseline, stored in baselines.items():
            with _weights_kept(layers):
                for name, layer in layers.items():
                    layer.weight.copy_(stored(name, layer.weight))
                streams[baseline] = [block(rows) for rows in streams[baseline]]
        factors: dict[str, Tensor] = {}
        for name, layer in layers.items():
            group = grams.group[name]
            if group not in factors:
                factors[group] = feedback(grams[name])
            packed[name] = _quantized(name, layer.weight, chosen[name], factors[group])
            dequantize(packed[name], out=layer.weight)
        streams["strop"] = [block(rows) for rows in streams["strop"]]
        hidden = [block(rows) for rows in hidden]
        tell("quantising", i + 1, len(decoder.blocks))
    measured = {
        name: compare(decoder.logits, streams["original"], stream, held_out.tokens)
        for name, stream in streams.items()
    }
    return Compressed(packed, measured)


def _quantized(name: str, weight: Tensor, form: str, factor: Tensor) -> Packed:
    try:
        return quantize(weight, FORMATS[form], feedback=factor)
    except DataError as e:
        raise DataError(f"{name}: {e}") from e


@contextmanager
def _weights_kept(layers: Mapping[str, nn.Linear]) -> Iterator[None]:
    kept = {name: layer.weight.clone() for name, layer in layers.items()}
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer.weight.copy_(kept[name])
