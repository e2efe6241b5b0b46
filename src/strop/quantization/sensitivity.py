"""What each format would cost each group of matrices, in bytes and in nats per token."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from strop.ops.dequantize import dequantize
from strop.quantization.allocation import Option
from strop.quantization.calibration import Layer
from strop.quantization.formats import Format
from strop.quantization.matrix import quantize

SAMPLED = 64
"""Rows of a matrix from which the error of a format is judged."""


def options(layer: Layer, weight: Tensor, forms: Sequence[Format]) -> dict[str, Option]:
    """Return what each format that fits would cost one matrix.

        kl = 1/2 sum_ij gradient[i] * residual[j] * (weight[i, j] - stored[i, j])**2

    This is the second-order change of the KL divergence to the unquantised model with the Fisher
    information taken as diagonal over outputs, and over inputs as error feedback leaves it.

    Args:
        layer: what calibration told of it.
        weight: [E, D]
        forms: that may be chosen; those whose group does not divide D are passed over.
    """
    E, D = weight.shape
    rows = torch.linspace(0, E - 1, min(E, SAMPLED)).long()
    sample = weight[rows].float()
    gradient, residual = layer.gradient[rows.to(weight.device)], layer.residual
    share = layer.gradient.sum() / gradient.sum().clamp_min(torch.finfo(torch.float32).tiny)
    found = {}
    for form in forms:
        if D % form.group == 0:
            stored = dequantize(quantize(sample, form, energy=residual))
            kl = 0.5 * share * (gradient @ (sample - stored).square() @ residual)
            found[form.name] = Option(form.name, form.stored_bytes((E, D)), float(kl))
    return found


def together(options: Mapping[str, Mapping[str, Option]]) -> list[Option]:
    """Return the options of matrices that share a choice: of formats that fit them all.

    Args:
        options: of each matrix by the name of the format.
    """
    common = set.intersection(*(set(of) for of in options.values()))
    each = list(options.values())
    return [
        Option(name, sum(of[name].bytes for of in each), sum(of[name].kl for of in each))
        for name in sorted(common)
    ]
