"""A whole model into few bits: calibrate, choose formats within a budget, quantise, measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from strop.core.errors import ConfigError, DataError, UnsupportedError
from strop.quantization.allocation import Knapsack, Option
from strop.quantization.calibration import Layer, Tell, calibrate
from strop.quantization.compression import BASELINE_GROUP, Compressed, HeldOut, compress
from strop.quantization.decoder import Decoder
from strop.quantization.formats import FORMATS, Format
from strop.quantization.sensitivity import options, together

ROUNDS = 3
"""How often the model is quantised anew where a KL is asked for and was missed."""
NF4_FORMAT = Format("nf4", 4, BASELINE_GROUP)


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised model: its weights, the choice behind them, and what they were measured to do."""

    compressed: Compressed
    chosen: dict[str, Option]
    """The format of each group of layers, by the group's first."""
    options: dict[str, list[Option]]
    """What each group could have had."""
    members: dict[str, list[str]]
    """The layers of each group."""
    left: list[str]
    """Layers that no format fits; they stay as they are."""
    nf4_bytes: int
    """What plain NF4 takes for the same layers."""

    @property
    def formats(self) -> dict[str, str]:
        """Return the format of each quantised layer."""
        return {
            name: option.format
            for group, option in self.chosen.items()
            for name in self.members[group]
        }

    @property
    def bytes(self) -> int:
        """Return what the quantised layers take."""
        return sum(option.bytes for option in self.chosen.values())


def quantize_model(
    decoder: Decoder,
    entering: Sequence[Tensor],
    held_out: HeldOut,
    *,
    budget: float | None = None,
    max_kl: float | None = None,
    tell: Tell = lambda stage, done, total: None,
) -> Quantized:
    """Quantise the linear layers of all blocks, with bits where they matter.

    Args:
        decoder: the unquantised model, which stays as it is.
        entering: [1, T, D] of each calibration sequence, before the first block.
        held_out: text the result is measured on.
        budget: bytes of the linear layers over those of plain NF4; or
        max_kl: the divergence from the original that is allowed, in nats per token, at the
            fewest bytes.
        tell: is told a stage, how many of its parts are done, and how many there are.

    Raises:
        ConfigError: the budget or the KL is out of reach.
        DataError: weights are NaN or infinite; all are named.
        UnsupportedError: no layer can be quantised.
    """
    check_finite(decoder)
    layers = calibrate(decoder, entering, tell)
    members, offered = _offered(decoder, layers, tell)
    if not offered:
        raise UnsupportedError(
            "no linear layer of this model can be quantised: their inputs are no whole number of "
            f"groups of {min(f.group for f in FORMATS.values())}"
        )
    knapsack = Knapsack(offered)
    shapes = [layers[name].shape for group in offered for name in members[group]]
    nf4_bytes = sum(NF4_FORMAT.stored_bytes(shape) for shape in shapes)
    chosen = _first_choice(knapsack, nf4_bytes, budget, max_kl)
    scale = 1.0
    for attempt in range(ROUNDS):
        formats = {name: o.format for group, o in chosen.items() for name in members[group]}
        compressed = compress(decoder, entering, held_out, formats, tell)
        if max_kl is None or compressed.strop.kl <= max_kl or attempt == ROUNDS - 1:
            break
        scale *= max_kl / compressed.strop.kl
        chosen = knapsack.below(max_kl * scale)
    if max_kl is not None and compressed.strop.kl > max_kl:
        raise ConfigError(
            f"a KL of {max_kl:g} nats per token was not reached: {ROUNDS} attempts came to "
            f"{compressed.strop.kl:.3g}; ask for more, or give a budget"
        )
    left = [
        name
        for i in range(len(decoder.blocks))
        for name in linear_names(decoder, i)
        if name not in formats
    ]
    return Quantized(compressed, chosen, offered, members, left, nf4_bytes)


def check_finite(decoder: Decoder) -> None:
    """Look through all weights of the blocks.

    Raises:
        DataError: some are NaN or infinite; all are named.
    """
    wrong = []
    for name, block in zip(decoder.names, decoder.blocks, strict=True):
        for own, parameter in block.named_parameters():
            if not parameter.isfinite().all():
                place = (~parameter.isfinite()).nonzero()[0].tolist()
                value = float(parameter[tuple(place)])
                wrong.append(f"{name}.{own} holds {value} at {place}")
    if wrong:
        raise DataError(
            "the weights are damaged, get the model again from a sound file:\n  "
            + "\n  ".join(wrong)
        )


def linear_names(decoder: Decoder, i: int) -> list[str]:
    """Return the names of the linear layers of block i."""
    found = decoder.blocks[i].named_modules(prefix=decoder.names[i])
    return [name for name, module in found if isinstance(module, nn.Linear)]


def _offered(
    decoder: Decoder, layers: Mapping[str, Layer], tell: Tell
) -> tuple[dict[str, list[str]], dict[str, list[Option]]]:
    """Return the layers of each group that can be quantised, and the group's options."""
    members: dict[str, list[str]] = {}
    for name, layer in layers.items():
        members.setdefault(layer.group, []).append(name)
    offered = {}
    for i, block in enumerate(decoder.blocks):
        weights = {
            f"{decoder.names[i]}.{name}": module.weight.detach()
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear)
        }
        for group in [name for name in members if name in weights]:
            each = {
                name: options(layers[name], weights[name], list(FORMATS.values()))
                for name in members[group]
            }
            if common := together(each):
                offered[group] = common
        tell("comparing formats", i + 1, len(decoder.blocks))
    return members, offered


def _first_choice(
    knapsack: Knapsack, nf4_bytes: int, budget: float | None, max_kl: float | None
) -> dict[str, Option]:
    if max_kl is not None:
        return knapsack.below(max_kl)
    assert budget is not None
    least = knapsack.least / nf4_bytes
    if budget < least:
        raise ConfigError(
            f"budget is {budget:g} times the bytes of plain NF4; the narrowest formats that fit "
            f"this model take {least:.4f} times, so ask for at least that"
        )
    return knapsack.within(int(budget * nf4_bytes))
