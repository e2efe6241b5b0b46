"""What can be chosen for a whole model: groups of layers, their options, and the bytes of NF4."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.core.errors import ConfigError, UnsupportedError
from strop.core.progress import Progress
from strop.ops.dequantize import dequantize
from strop.quantization.allocation import Knapsack, Option
from strop.quantization.block import Decoder
from strop.quantization.calibration import LayerStats, groups
from strop.quantization.formats import FORMATS, NF4, Format
from strop.quantization.matrix import quantize

NF4_FORMAT = Format("nf4", 4, 64, NF4)
"""As bitsandbytes has it: blocks of 64, scales of 8 bits. Never chosen: other tables are better."""
SAMPLED = 256
"""Rows of a matrix from which the error of a format is judged."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The groups of layers that share a format, and what each format would cost each group."""

    members: dict[str, list[str]]
    """The layers of each group, by its first."""
    options: dict[str, list[Option]]
    nf4_bytes: int
    """What plain NF4 takes for all layers that have options."""

    def within(self, budget: float) -> dict[str, Option]:
        """Return the choice of least KL within so many times the bytes of plain NF4.

        Raises:
            ConfigError: no choice is so small.
        """
        knapsack = Knapsack(self.options)
        if budget * self.nf4_bytes < knapsack.least:
            raise ConfigError(
                f"budget is {budget:g} times the bytes of plain NF4; the narrowest formats that "
                f"fit this model take {knapsack.least / self.nf4_bytes:.4f} times as many, so ask "
                "for at least that"
            )
        return knapsack.within(int(budget * self.nf4_bytes))

    def below(self, kl: float) -> dict[str, Option]:
        """Return the choice of fewest bytes that is expected to cost at most `kl`.

        Raises:
            ConfigError: no choice costs so little.
        """
        return Knapsack(self.options).below(kl)

    def formats(self, chosen: Mapping[str, Option]) -> dict[str, Format]:
        """Return the format of each layer."""
        return {
            name: FORMATS[of.format] for group, of in chosen.items() for name in self.members[group]
        }


def choices(decoder: Decoder, layers: Mapping[str, LayerStats], progress: Progress) -> Choices:
    """Return what can be chosen for each group of layers that read the same input.

    Args:
        decoder: the unquantised model.
        layers: what calibration told of them.
        progress: called with each stage.

    Raises:
        UnsupportedError: no format fits any layer.
    """
    members = groups(layers)
    offered: dict[str, list[Option]] = {}
    for i in range(len(decoder.blocks)):
        weights = {
            name: linear.weight.detach()
            for name, linear in decoder.linears(i).items()
            if name in layers
        }
        for group in [name for name in members if name in weights]:
            each = [options(layers[name], weights[name]) for name in members[group]]
            common = set.intersection(*(set(of) for of in each))
            if common:
                offered[group] = [_sum(name, [of[name] for of in each]) for name in sorted(common)]
        progress("comparing formats", i + 1, len(decoder.blocks))
    if not offered:
        raise UnsupportedError(
            "no linear layer of this model can be quantised: their inputs are no whole number of "
            f"groups of {min(f.group for f in FORMATS.values())}"
        )
    shapes = [layers[name].shape for group in offered for name in members[group]]
    return Choices(members, offered, sum(NF4_FORMAT.stored_bytes(shape) for shape in shapes))


def options(layer: LayerStats, weight: Tensor) -> dict[str, Option]:
    """Return what each format that fits would cost one matrix [E, D].

        kl = 1/2 sum_ij output_grad_sq[i] * conditional_variance[j] * (weight - stored)[i, j]**2

    This is the second-order change of the KL divergence to the unquantised model with the Fisher
    information taken as diagonal over outputs, and over inputs as error feedback leaves it.
    """
    E, D = weight.shape
    rows = sampled(E).to(weight.device)
    sample = weight[rows].float()
    return {
        form.name: Option(
            form.name, form.stored_bytes((E, D)), rounding_kl(layer, sample, rows, form)
        )
        for form in FORMATS.values()
        if D % form.group == 0
    }


def rounding_kl(layer: LayerStats, sample: Tensor, rows: Tensor, form: Format) -> float:
    """Return the KL in nats that a matrix is expected to cost in a format, errors fed back.

    Args:
        layer: what calibration told of it.
        sample: [N, D] some of its rows, in float32.
        rows: [N] which they are.
        form: D is a multiple of its group.
    """
    stored = dequantize(quantize(sample, form, energy=layer.conditional_variance))
    return expected_kl(layer, sample - stored, rows, layer.conditional_variance)


def sampled(E: int) -> Tensor:
    """Return the rows, of E, from which the error of a format is judged."""
    return torch.linspace(0, E - 1, min(E, SAMPLED)).long()


def expected_kl(layer: LayerStats, errors: Tensor, rows: Tensor, energy: Tensor) -> float:
    """Return the KL that is expected of the errors of a matrix, in nats per token.

    Args:
        layer: what calibration told of it.
        errors: [N, D] of some of its rows.
        rows: [N] which they are.
        energy: [D] the price of the square of an error in each column.
    """
    gradient = layer.output_grad_sq[rows]
    share = layer.output_grad_sq.sum() / gradient.sum().clamp_min(torch.finfo(torch.float32).tiny)
    return float(0.5 * share * (gradient @ errors.square() @ energy))


def _sum(name: str, each: list[Option]) -> Option:
    return Option(name, sum(o.bytes for o in each), sum(o.kl for o in each))
