"""Rows of a known family on a CPU: prompts through strop's halves, then one call of C++ a token."""

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strop.core.system.pages import use_large_pages
from strop.core.tokens import IGNORE_INDEX
from strop.forward.base_model import base_model
from strop.forward.compaction import CompactBatch, compact_batch
from strop.forward.decoder import blocks, modified
from strop.forward.decoder.block_families import BLOCK_FAMILIES
from strop.forward.head import Head
from strop.layers.decoding.cache import BLOCK, Piece
from strop.layers.decoding.step import KINDS, Halves, Step, function, linear_obstacle
from strop.models.sampling.rows import Row
from strop.ops.lora_linear.parts import LinearParts, Workspace

LONG = 128
"""Tokens of an answer from which it pays to copy the weights into large pages, which is done once."""
_CHANGING_ANGLES = ("dynamic", "longrope")
"""Kinds of rotary angles that depend on how long a row is."""


def obstacle(model: Any) -> str | None:
    """Return why a model's answers come through transformers' cache, or None if they need not."""
    base = base_model(model)
    decoder = base.base_model
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return "its adapter puts tokens before the prompt"
    if any(p.device.type != "cpu" for p in base.parameters()):
        return "it is not on a CPU"
    if computing_dtype(base) not in KINDS:
        return "it computes in float64"
    if not blocks.all_known(decoder) or not modified.is_original(decoder):
        return f"{type(decoder).__name__} is not of a known family"
    if any(not BLOCK_FAMILIES[type(b).__name__].plain_attention for b in decoder.layers) or any(
        not hasattr(b, "self_attn") for b in decoder.layers
    ):
        return "some of its blocks carry a state from token to token"
    kinds = getattr(decoder.rotary_emb, "rope_type", "default")
    if set(kinds.values() if isinstance(kinds, dict) else (kinds,)) & {*_CHANGING_ANGLES}:
        return "its rotary angles depend on how long a row is"
    if (why := modified.obstacle(base)) is not None:
        return why
    head = Head.of(base)
    if head.weight is None or blocks.read_last_norm(decoder) is None:
        return "its head or its last norm is not of a known kind"
    halves = _halves(base, decoder.layers)
    if isinstance(halves, str):
        return halves
    parts = [part for a, m in halves for part in (*a.qkv, a.o, *m.gate_up, m.down)]
    for part in (*parts, LinearParts(head.weight, head.bias)):
        if (why := linear_obstacle(part)) is not None:
            return why
    return None if function() is not None else "there is no C++ compiler"


def computing_dtype(base: Any) -> torch.dtype:
    """Return the dtype that a model computes in, whatever its weights are held in."""
    embedded: Tensor = base.get_input_embeddings()(torch.zeros(1, dtype=torch.long))
    return embedded.dtype


def _halves(base: Any, layers: Sequence[Any]) -> list[Halves] | str:
    """Return the halves of all blocks, or why one of them cannot be read."""
    batch = _batch_of([(0,)])
    halves: list[Halves] = []
    for block in layers:
        if (why := blocks.obstacle(block, trainable=True)) is not None:
            return why
        angles = _angles(base.base_model, block, torch.zeros(1, dtype=torch.long))
        read = blocks.read(block, batch, angles, Workspace(), None)
        halves.append((read.attention, read.mlp))  # type: ignore[arg-type]
    return halves


@dataclass(slots=True)
class _Prompt:
    pieces: list[Piece]
    logits: Tensor
    """[V] of the token after it."""


class BlockCache:
    """Rows whose keys and values lie in blocks; what prompts have in common lies there once.

    Bytes of n tokens are 8 L K C n, rounded up to whole blocks for each part of a prompt that rows
    share and for each answer.
    """

    def __init__(self, model: Any, rows: Sequence[Row]) -> None:
        self.model = base_model(model)
        self.decoder = self.model.base_model
        self._expected = Counter(row.prompt for row in rows)
        halves, norm = _halves(self.model, self.decoder.layers), blocks.read_last_norm(self.decoder)
        assert not isinstance(halves, str)
        assert norm is not None
        head = Head.of(self.model)
        assert head.weight is not None
        self._last_norm = norm
        with torch.no_grad():
            part = LinearParts(head.weight.detach(), head.bias)
            self._step = Step(
                halves, norm, part, head.scale, head.softcap, dtype=computing_dtype(self.model)
            )
        self._head = head
        self._prompts: dict[tuple[int, ...], _Prompt] = {}
        self._rows: dict[Row, list[Piece]] = {}
        longest = max(len(row.prompt) + row.most for row in rows)
        self._tables = self._angles_to(longest)
        if max(row.most for row in rows) >= LONG:
            use_large_pages(self._step.tensors)

    @property
    def nbytes(self) -> int:
        """Return the bytes of all blocks in use."""
        pieces = {piece for row in self._rows.values() for piece in row}
        pieces |= {piece for prompt in self._prompts.values() for piece in prompt.pieces}
        return sum(piece.block.nbytes for piece in pieces)

    def start(self, rows: Sequence[Row]) -> Tensor:
        """Take rows in and return the logits [B, V] of their first tokens."""
        missing = dict.fromkeys(row.prompt for row in rows if row.prompt not in self._prompts)
        if missing:
            self._read_prompts(list(missing))
        logits = torch.stack([self._prompts[row.prompt].logits for row in rows])
        for row in rows:
            self._rows[row] = list(self._prompts[row.prompt].pieces)
            self._expected[row.prompt] -= 1
            if not self._expected[row.prompt]:
                del self._prompts[row.prompt]
        return logits

    @torch.no_grad()
    def step(self, rows: Sequence[Row]) -> Tensor:
        """Take in the last token of each row and return the logits [B, V] of the next ones.

        Rows that are not named any more are dropped.
        """
        self._rows = {row: self._rows[row] for row in rows}
        positions = []
        for row, pieces in self._rows.items():
            position = len(row.prompt) + len(row.ids) - 1
            if len(row.ids) == 1 or pieces[-1].count == BLOCK:
                pieces.append(self._piece(position))
            pieces[-1].count += 1
            positions.append(position)
        tokens = torch.tensor([row.ids[-1] for row in rows])
        x = self.model.get_input_embeddings()(tokens).float()
        index = torch.tensor(positions)
        angles = {kind: (cos[index], sin[index]) for kind, (cos, sin) in self._tables.items()}
        each = [angles[self._kind(block)] for block in self.decoder.layers]
        return self._step(x, list(self._rows.values()), each)

    def _kind(self, block: Any) -> str | None:
        return _kind_of_angles(self.decoder, block)

    def _angles_to(self, longest: int) -> dict[str | None, tuple[Tensor, Tensor]]:
        """Return cosines and sines [longest, P] of each kind of block."""
        tables: dict[str | None, tuple[Tensor, Tensor]] = {}
        positions = torch.arange(longest)
        for block in self.decoder.layers:
            if (kind := self._kind(block)) not in tables:
                cos, sin = _angles(self.decoder, block, positions)
                P = cos.shape[-1] // 2
                tables[kind] = cos[0, :, :P].float(), sin[0, :, :P].float()
        return tables

    def _piece(self, start: int) -> Piece:
        return Piece.empty(self._step.layers, self._step.key_heads, self._step.features, start)

    @torch.no_grad()
    def _read_prompts(self, prompts: list[tuple[int, ...]]) -> None:
        """Compute the keys and values of some prompts and the logits after each."""
        batch = _batch_of(prompts)
        segments = batch.segments
        pieces: list[list[Piece]] = []
        for offset, length in zip(segments.offsets, segments.lengths, strict=True):
            starts = range(offset, offset + length, BLOCK)
            pieces.append([self._piece(start) for start in starts])
            for piece in pieces[-1]:
                piece.count = min(BLOCK, offset + length - piece.start)
        hidden = self._hidden(batch, pieces)
        logits = self._logits(hidden)
        width = max(map(len, prompts))
        for slot, row, line in zip(batch.slots.tolist(), batch.rows.tolist(), logits, strict=True):
            segment = bisect.bisect_right(segments.starts, row) - 1
            path = [*reversed([*segments.ancestors(segment)]), segment]
            whole = [piece for s in path for piece in pieces[s]]
            self._prompts[prompts[slot // width]] = _Prompt(whole, line)

    def _hidden(self, batch: CompactBatch, pieces: list[list[Piece]]) -> Tensor:
        """Return the hidden rows [M, D] after the prompts, and fill the pieces of each segment."""
        x: Tensor = self.model.get_input_embeddings()(batch.tokens)
        workspace = Workspace()
        angles: dict[str | None, tuple[Tensor, Tensor]] = {}
        with torch.autocast("cpu", enabled=False):
            for i, block in enumerate(self.decoder.layers):
                kind = self._kind(block)
                if kind not in angles:
                    angles[kind] = _angles(self.decoder, block, batch.positions, like=x)
                read = blocks.read(block, batch, angles[kind], workspace, None)
                attention: Any = read.attention
                y, saved = attention.run(x, attention.masks(x))
                keys, values = attention.keys_and_values(saved)
                for start, parts in zip(batch.segments.starts, pieces, strict=True):
                    for piece in parts:
                        at = start + piece.start - parts[0].start
                        here = slice(at, at + piece.count)
                        piece.write(i, keys[here], values[here])
                if i == len(self.decoder.layers) - 1:
                    y = y.index_select(0, batch.rows)
                x, _ = read.mlp.run(y, read.mlp.masks(y))  # type: ignore[assignment]
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        norm, head = self._last_norm, self._head
        normed = norm.forward(hidden)[0]
        assert head.weight is not None
        logits = torch.empty(len(hidden), head.weight.shape[0])
        weight = head.weight.detach()
        for first in range(0, len(weight), 8192):  # widened piece by piece
            part = slice(first, first + 8192)
            logits[:, part] = normed.float() @ weight[part].float().T
        if head.bias is not None:
            logits += head.bias.detach().float()
        logits *= head.scale
        if head.softcap is not None:
            logits.div_(head.softcap).tanh_().mul_(head.softcap)
        return logits


def _batch_of(prompts: Sequence[tuple[int, ...]]) -> CompactBatch:
    """Return prompts as one row, prefixes in common once; the last token of each is a row of the head."""
    T = max(map(len, prompts)) + 1
    ids, labels = torch.zeros(2, len(prompts), T, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels.fill_(IGNORE_INDEX)
    for i, prompt in enumerate(prompts):
        ids[i, : len(prompt)] = torch.tensor(prompt)
        labels[i, len(prompt)] = 0  # the token that will be chosen
        mask[i, : len(prompt)] = 1
    batches = compact_batch(ids, labels, mask)
    assert batches is not None
    return batches[0]


def _kind_of_angles(decoder: Any, block: Any) -> str | None:
    """Return which of a decoder's kinds of rotary angles a block takes: Gemma 3 has several."""
    several = type(decoder.rotary_emb).__name__.startswith("Gemma3")
    return str(block.self_attn.layer_type) if several else None


def _angles(
    decoder: Any, block: Any, positions: Tensor, like: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines [1, N, 2 P] of a block's rotary embedding, in the dtype of `like`."""
    kind = _kind_of_angles(decoder, block)
    like = torch.empty(0) if like is None else like
    extra = () if kind is None else (kind,)
    cos, sin = decoder.rotary_emb(like, positions[None], *extra)
    return cos, sin
