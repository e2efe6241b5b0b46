"""Floating-point operations of a micro-batch, by formula.

Of N tokens, M of them labelled, through L blocks of P weights each, with adapters of p weights:

    4 P N + 6 p N   a block, forward and backward of inputs; + 2 P N + 2 p N where it is recomputed
    6 P N           a block whose own weights are trained; + 2 P N where it is recomputed
    14 C S          attention, C being the heads' width and S the pairs that see each other; + 4 C S
    4 M D V         the head, whose weight is frozen; 6 M D V where it is trained

The last block computes the labelled tokens only.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from strop.forward.compaction import CompactBatch
from strop.models.dtype import VOCABULARY, parameters
from strop.models.lora.target_modules import adapted_sides
from strop.planning.problems.adapters import ALL_LINEAR


@dataclasses.dataclass(frozen=True, slots=True)
class MicroBatch:
    """Sizes of what is computed at once."""

    tokens: int
    labels: int
    pairs: int
    """Pairs of a token and another that it attends to."""

    @classmethod
    def of(cls, compact: CompactBatch) -> "MicroBatch":
        """Return the sizes of a batch as the forward computes it."""
        before: list[int] = []
        pairs = 0
        segments = compact.segments
        for length, parent in zip(segments.lengths, segments.parents, strict=True):
            earlier = 0 if parent is None else before[parent]
            before.append(earlier + length)
            pairs += length * earlier + length * (length + 1) // 2
        return cls(len(compact.tokens), len(compact.rows), pairs)

    @classmethod
    def of_rows(cls, lengths: Iterable[int], labels: int) -> "MicroBatch":
        """Return the sizes of rows that share nothing."""
        lengths = list(lengths)
        return cls(sum(lengths), labels, sum(n * (n + 1) // 2 for n in lengths))


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Sizes of a model that decide what a micro-batch costs."""

    blocks: int
    block_weights: int
    adapter: int
    """Weights that are trained in a block: the adapter's, or all."""
    heads_width: int
    head_weights: int

    @classmethod
    def of(cls, model: Any, modules: Any, rank: int) -> "Work":
        """Return the sizes of a transformers model without an adapter; rank 0 trains its weights."""
        config = model.config.get_text_config()
        weights = sum(inputs * outputs for inputs, outputs in adapted_sides(model, ALL_LINEAR))
        blocks = config.num_hidden_layers
        heads = getattr(config, "num_attention_heads", 1) or 1
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            blocks=blocks,
            block_weights=weights // blocks,
            adapter=(
                rank * sum(map(sum, adapted_sides(model, modules))) // blocks
                if rank
                else weights // blocks
            ),
            heads_width=heads * width,
            head_weights=config.hidden_size * config.vocab_size,
        )

    @classmethod
    def timed(cls, sizes: dict[str, int], blocks: int, trained: int) -> "Work":
        """Return the sizes of the few blocks that were timed."""
        weights, _ = parameters(sizes)
        return cls(
            blocks=blocks,
            block_weights=weights,
            adapter=trained // blocks,
            heads_width=sizes["num_attention_heads"] * sizes["head_dim"],
            head_weights=sizes["hidden_size"] * min(sizes["vocab_size"], VOCABULARY),
        )

    def training(self, batch: MicroBatch, *, recomputed: bool) -> float:
        """Return the operations of forward and backward."""
        dense, low, pairs = (6, 8, 18) if recomputed else (4, 6, 14)
        head = 4
        if self.adapter == self.block_weights:  # no adapter: its products are those of the weights
            low, head = 2, 6
        tokens = (self.blocks - 1) * batch.tokens + min(batch.tokens, batch.labels)
        blocks = tokens * (dense * self.block_weights + low * self.adapter)
        attention = pairs * self.heads_width * batch.pairs * self.blocks
        return blocks + attention + head * batch.labels * self.head_weights

    def evaluation(self, batch: MicroBatch) -> float:
        """Return the operations of a forward pass."""
        tokens = (self.blocks - 1) * batch.tokens + min(batch.tokens, batch.labels)
        blocks = tokens * 2 * (self.block_weights + self.adapter)
        attention = 4 * self.heads_width * batch.pairs * self.blocks
        return blocks + attention + 2 * batch.labels * self.head_weights
