"""Hidden rows that the head scores, from a compact batch.

A decoder whose blocks are of a known family runs block by block through strop's halves; any other, and
any single block with an obstacle, runs through transformers' own code with strop's attention.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from strop.core.errors import ConfigError
from strop.core.system.spill import Spill
from strop.forward.compaction import CompactBatch
from strop.forward.decoder import attention, blocks, experts, mixers, modified
from strop.forward.decoder.adapters import drops_out
from strop.forward.decoder.block_families import BLOCK_FAMILIES
from strop.forward.decoder.checkpoints import (
    checkpoint,
    checkpoint_among_segments,
    checkpoint_grouped,
    checkpointing,
)
from strop.forward.decoder.mixers import MixerHalf
from strop.layers.block import CHUNK, Block, run_block, run_half, run_mlp
from strop.ops.lora_linear.parts import Workspace
from strop.ops.rms_norm import rms_norm

log = logging.getLogger("strop")
ACTIVATIONS = ("auto", "keep", "checkpoint", "offload")
FUSE = ("auto", "always", "never")


@dataclass(slots=True)
class Backbone:
    """Decoder of `model` on one row of compacted tokens.

    Of L known blocks on N tokens, saved for backward and alive at the peak of a step are

        keep        L blocks
        checkpoint  (L - 1) N D numbers, and the last block
        offload     the last block

    where a block is what the docstrings of its two halves say. The last one's MLP counts the scored
    rows only, and is not saved under the last two if those are more than a chunk. The head, the last
    norm and what one block needs while it runs backward do not grow with L.
    """

    model: Any
    activations: str
    fuse: str
    workspace: Workspace = field(default_factory=Workspace)
    reported: set[str] = field(default_factory=set)
    silent: bool = False
    """Whether reports are off now."""

    def shares_prefixes(self) -> bool:
        """Return whether a shared prefix may be computed once: not where dropout makes copies differ."""
        return not drops_out(self.model)

    def __call__(
        self,
        batch: CompactBatch,
        *,
        one_by_one: bool = False,
        embedded: Tensor | None = None,
        router_logits: list[Tensor] | None = None,
    ) -> Tensor:
        """Return the hidden rows [M, D] that predict the labels.

        Args:
            batch: tokens and labels.
            one_by_one: each row through the decoder's own forward; `batch` shares no prefixes then.
            embedded: [N, D] in place of the tokens' embeddings.
            router_logits: those of each layer with experts are added to it, [N, E] each.
        """
        if one_by_one:
            return self._row_by_row(batch, router_logits)
        if embedded is None:
            embedded = self.embed(batch)
        decoder = self.model.base_model
        if self._knows(decoder, embedded):
            return self._by_halves(decoder, embedded, batch)
        with self._as_written(batch):
            decoded = decoder(
                inputs_embeds=embedded[None],
                position_ids=batch.positions[None],
                attention_mask=attention.no_mask(embedded),
                use_cache=False,
                segments=batch.segments,
                **_routing(router_logits),
            )
        if router_logits is not None:
            router_logits += decoded.router_logits
        hidden: Tensor = decoded.last_hidden_state[0].index_select(0, batch.rows)
        return hidden

    def embed(self, batch: CompactBatch) -> Tensor:
        """Return the embeddings [N, D] of a batch's tokens."""
        layer = self.model.get_input_embeddings()
        embedded: Tensor = layer(batch.tokens)
        if any(p.requires_grad for p in layer.parameters()):
            return embedded
        return embedded.detach()  # nothing below the lowest adapter needs a gradient

    def _row_by_row(self, batch: CompactBatch, router_logits: list[Tensor] | None) -> Tensor:
        segments, rows, routed = batch.segments, [], []
        again = functools.partial(checkpoint_grouped, self.model)
        for start, length in zip(segments.starts, segments.lengths, strict=True):
            tokens = batch.tokens[None, start : start + length]
            positions = batch.positions[None, start : start + length]
            # a model counts from 0 by itself, each in its way
            extra = {"position_ids": positions} if int(positions[0, 0]) else {}
            with experts.grouped(self.model), checkpointing(self.model, self._lean, again):
                decoded = self.model.base_model(
                    input_ids=tokens,
                    attention_mask=torch.ones_like(tokens),
                    use_cache=False,
                    **extra,
                    **_routing(router_logits),
                )
            rows.append(decoded.last_hidden_state[0])
            if router_logits is not None:
                routed.append(decoded.router_logits)
        if router_logits is not None:
            router_logits += map(torch.cat, zip(*routed, strict=True))
        return torch.cat(rows).index_select(0, batch.rows)

    def checkpointing(self) -> contextlib.AbstractContextManager[None]:
        """Let blocks that run through their own forward keep what `activations` says."""
        return checkpointing(self.model, self._lean, checkpoint)

    @property
    def _lean(self) -> bool:
        return self.activations in ("checkpoint", "offload")

    def _knows(self, decoder: Any, embedded: Tensor) -> bool:
        if self.fuse == "never" or (self.fuse == "auto" and embedded.dtype == torch.float64):
            return False  # transformers rounds norms to float32, also in a float64 model
        device = embedded.device.type
        if (
            torch.is_autocast_enabled(device)
            and embedded.dtype == torch.float32
            and device != "cpu"
        ):
            self._report("autocast computes in 16 bits beside a residual in float32")
            return False  # on a CPU float32 is the faster one, and nearer the truth
        layers = getattr(decoder, "layers", None)
        if layers is None or not len(layers):
            self._report("its decoder has no list of blocks")
            return False
        kinds = {type(block).__name__ for block in layers}
        if not kinds <= BLOCK_FAMILIES.keys():
            self._report(
                f"{', '.join(sorted(kinds - BLOCK_FAMILIES.keys()))} is no known kind of block"
            )
            return False
        if not modified.is_original(decoder):
            self._report(f"{type(decoder).__name__} is not as transformers wrote it")
            return False
        return True

    def _by_halves(self, decoder: Any, hidden: Tensor, batch: CompactBatch) -> Tensor:
        spill = Spill() if self.activations == "offload" else None
        angles = _angles(decoder, hidden, batch.positions)
        for i, block in enumerate(decoder.layers):
            cos, sin = angles(block)
            why = blocks.obstacle(block, rebound_norms=self.fuse == "always")
            if why is not None:
                self._report(f"a block runs as transformers wrote it: {why}")
                hidden = self._one_as_written(block, hidden, batch, (cos, sin))
                continue
            read = blocks.read(block, batch, (cos, sin), self.workspace, spill)
            if i == len(decoder.layers) - 1:  # above it only the scored rows are of use
                hidden = _mixed(read, hidden).index_select(0, batch.scored)
                if self._lean and len(hidden) > CHUNK:
                    hidden = run_mlp(read.mlp, hidden)
                else:
                    hidden = run_half(read.mlp, hidden)
                return self._normed(decoder, hidden.index_select(0, batch.places))
            if not self._lean:
                hidden = run_half(read.mlp, _mixed(read, hidden))
            elif isinstance(read.attention, MixerHalf) and not torch.is_grad_enabled():
                hidden = run_mlp(read.mlp, read.attention(hidden))
            else:
                hidden = run_block(read, hidden)
        return self._normed(decoder, hidden.index_select(0, batch.rows))

    def _normed(self, decoder: Any, hidden: Tensor) -> Tensor:
        norm = blocks.read_last_norm(decoder)
        if norm is None or torch.promote_types(norm.weight.dtype, hidden.dtype) != hidden.dtype:
            normed: Tensor = blocks.last_norm(decoder)(hidden)
            return normed
        return rms_norm(hidden, norm.weight, eps=norm.eps, unit_offset=norm.unit_offset)

    def _one_as_written(
        self, block: Any, hidden: Tensor, batch: CompactBatch, angles: tuple[Tensor, Tensor]
    ) -> Tensor:
        with self._as_written(batch):
            decoded = block(
                hidden[None],
                attention_mask=attention.no_mask(hidden),
                position_ids=batch.positions[None],
                position_embeddings=angles,
                segments=batch.segments,
            )
        row: Tensor = decoded[0]
        return row

    @contextlib.contextmanager
    def _as_written(self, batch: CompactBatch) -> Iterator[None]:
        again = functools.partial(checkpoint_among_segments, self.model, batch.segments)
        with (
            attention.in_use(self.model),
            mixers.by_segments(self.model, batch.segments),
            experts.grouped(self.model),
            checkpointing(self.model, self._lean, again),
        ):
            yield

    def _report(self, why: str) -> None:
        if why not in self.reported and not self.silent:
            self.reported.add(why)
            log.warning("strop's fused blocks are off for %s: %s", type(self.model).__name__, why)


def _routing(router_logits: list[Tensor] | None) -> dict[str, bool]:
    return {} if router_logits is None else {"output_router_logits": True}


def attach(model: nn.Module, *, activations: str, fuse: str) -> Backbone:
    """Return the backbone of `model`.

    Raises:
        ConfigError: `activations` or `fuse` is unknown.
    """
    for name, value, known in (("activations", activations, ACTIVATIONS), ("fuse", fuse, FUSE)):
        if value not in known:
            raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(known)}")
    return Backbone(model, activations, fuse)


def _mixed(block: Block, hidden: Tensor) -> Tensor:
    """Run the first half of a block, which keeps for backward what it needs there."""
    if isinstance(block.attention, MixerHalf):
        return block.attention(hidden)
    return run_half(block.attention, hidden)


def _angles(
    decoder: Any, hidden: Tensor, positions: Tensor
) -> Callable[[Any], tuple[Tensor, Tensor]]:
    """Return a function from a block to its cosines and sines [1, N, 2 P], computed once per kind."""
    computed: dict[str | None, tuple[Tensor, Tensor]] = {}
    by_kind = type(decoder.rotary_emb).__name__.startswith("Gemma3")

    def angles(block: Any) -> tuple[Tensor, Tensor]:
        kind = block.self_attn.layer_type if by_kind else None
        if kind not in computed:
            extra = () if kind is None else (kind,)
            computed[kind] = decoder.rotary_emb(hidden[None], positions[None], *extra)
        return computed[kind]

    return angles
