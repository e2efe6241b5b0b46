"""Attention heads of a weight: their size, and the order of the rows that are rotated together.

transformers rotates row i of a head with row i + head/2; Meta's code, and llama.cpp for Llama, row 2i
with row 2i + 1.
"""

from typing import Any

from torch import Tensor


def head_size(config: Any) -> int:
    """Return the width of an attention head of the language model; 0 where it has none."""
    config = getattr(config, "get_text_config", lambda: config)()
    if (size := getattr(config, "head_dim", None)) is not None:
        return int(size)
    heads = getattr(config, "num_attention_heads", None)
    return int(config.hidden_size // heads) if isinstance(heads, int) and heads else 0


def halves_to_pairs(rows: Tensor, head: int) -> Tensor:
    """Return rows in the order 0, head/2, 1, head/2 + 1, ... within each head.

    Args:
        rows: [O, ...] whole heads.
        head: rows of a head.
    """
    halves = rows.reshape(-1, 2, head // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def pairs_to_halves(rows: Tensor, head: int) -> Tensor:
    """Return rows in the order 0, 2, ..., 1, 3, ... within each head: the inverse."""
    pairs = rows.reshape(-1, head // 2, 2, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)
