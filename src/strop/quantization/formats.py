"""The formats a weight can be stored in. What a name means never changes: files name them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import torch
from torch import Tensor

SCALE_GROUP = 256
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
BOF4S_32 = (
    -0.8732797503471375, -0.6907446384429932, -0.5437039136886597, -0.4173701703548431,
    -0.3038933575153351, -0.1986017823219299, -0.0981557220220566, 0.0, 0.0925938412547112,
    0.187048003077507, 0.2855197489261627, 0.3907126188278198, 0.506283164024353,
    0.6379748582839966, 0.7956376671791077, 1.0,
)  # fmt: skip
BOF4S_64 = (
    -0.8568463921546936, -0.6692874431610107, -0.5235266089439392, -0.4004882574081421,
    -0.2910638153553009, -0.1900092959403992, -0.0938529595732689, 0.0, 0.0887671709060669,
    0.1794802695512772, 0.2743096053600311, 0.3760197460651398, 0.4886530041694641,
    0.6188603639602661, 0.7791395783424377, 1.0,
)  # fmt: skip
BOF4S_128 = (
    -0.83739173412323, -0.6462452411651611, -0.5028634667396545, -0.3836247622966766,
    -0.2783779501914978, -0.1815713942050934, -0.0896477326750755, 0.0, 0.0850915610790253,
    0.1720834821462631, 0.2632072865962982, 0.3613293170928955, 0.4707452654838562,
    0.5988966822624207, 0.761027991771698, 1.0,
)  # fmt: skip
"""Tables of BOF4-S (MSE), arXiv:2505.06653: the scale carries the sign of the largest weight."""


def dense_where_weights_are(bits: int, largest: float) -> tuple[float, ...]:
    """Return 2 ** bits levels up to 1, as dense as the cube root of the density of normal numbers.

        t[i] = q((i - h + 1) / h) / q(1)        h = 2 ** (bits - 1)
        q(u) = Phi^-1(1/2 + u (Phi(c / sqrt(3)) - 1/2))

    Many levels of this density have the least mean square error (Panter and Dite 1951). It is that
    of Lloyd's algorithm within 2 % at 5 bits and better at 6.

    Args:
        bits: of a code.
        largest: c, where the largest of a group lies, in standard deviations.
    """
    normal, half = NormalDist(), 2 ** (bits - 1)
    top = normal.cdf(largest / math.sqrt(3)) - 0.5
    points = [normal.inv_cdf(0.5 + (i - half + 1) / half * top) for i in range(2 * half)]
    return tuple(round(point / points[-1], 6) for point in points)


@dataclass(frozen=True, slots=True)
class Format:
    """How a weight is stored: bits of a code, weights that share a scale, what codes mean."""

    name: str
    bits: int
    group: int
    levels: tuple[float, ...] = ()
    """Empty means evenly spaced from -1 to 1."""

    @property
    def bits_per_weight(self) -> float:
        """Return bits of codes, scales and their factors together."""
        return self.bits + (8 + 32 / SCALE_GROUP) / self.group

    def stored_bytes(self, shape: Sequence[int]) -> int:
        """Return what a weight [E, D] takes."""
        count = shape[0] * shape[1]
        blocks = -(-count // self.group)
        return count * self.bits // 8 + blocks + 4 * -(-blocks // SCALE_GROUP)

    def table(self) -> Tensor:
        """Return [2 ** bits] float32, ascending."""
        if self.levels:
            return torch.tensor(self.levels)
        half = 2 ** (self.bits - 1)
        return (torch.arange(2 * half) - half).float() / half


FORMATS = {
    f.name: f
    for f in (
        Format("4b128", 4, 128, BOF4S_128),
        Format("4b64", 4, 64, BOF4S_64),
        Format("4b32", 4, 32, BOF4S_32),
        Format("5n128", 5, 128, dense_where_weights_are(5, 2.7)),
        Format("5n64", 5, 64, dense_where_weights_are(5, 2.7)),
        Format("6n64", 6, 64, dense_where_weights_are(6, 3.0)),
        Format("8b128", 8, 128),
        Format("8b64", 8, 64),
    )
}
"""By the name that a model's config.json gives for each layer."""


@cache
def scale_table() -> Tensor:
    """Return [256] float32: signed squares, so that small scales beside large ones are near too."""
    steps = (torch.arange(256) - 128).float() / 127
    return (steps * steps.abs()).clamp(-1, 1)
