"""Keys and values of tokens in blocks that rows share where they begin alike."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

BLOCK = 64
"""Tokens of a block."""
_LANES = 16


@dataclass(slots=True, eq=False)
class Piece:
    """Some tokens that follow one another, in a block [L, 2, K, Cp * BLOCK] of float32.

    Keys lie as [C, BLOCK], values as [BLOCK, Cp], where Cp is C rounded up to a multiple of 16.
    """

    block: Tensor
    start: int
    """Position of the first token."""
    count: int = 0

    @classmethod
    def empty(cls, layers: int, key_heads: int, features: int, start: int) -> Self:
        """Return a piece without tokens."""
        width = -(-features // _LANES) * _LANES
        return cls(torch.empty(layers, 2, key_heads, width * BLOCK), start)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put keys and values [n, K, C] of a layer's first n tokens in."""
        n, K, C = keys.shape
        by_head = self.block[layer].view(2, K, -1)
        by_head[0].view(K, -1, BLOCK)[:, :C, :n] = keys.permute(1, 2, 0)
        by_head[1].view(K, BLOCK, -1)[:, :n, :C] = values.permute(1, 0, 2)


def spans(rows: list[list[Piece]]) -> Tensor:
    """Return block, count, start and the rows from and to of each piece [S, 5].

    Neighbours that share a piece are one span.
    """
    table: list[list[int]] = []
    places: dict[Piece, int] = {}
    for row, pieces in enumerate(rows):
        for piece in pieces:
            at = places.get(piece)
            if at is not None and table[at][4] == row:
                table[at][4] += 1
            else:
                places[piece] = len(table)
                table.append([piece.block.data_ptr(), piece.count, piece.start, row, row + 1])
    return torch.tensor(table)
