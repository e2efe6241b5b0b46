"""How much is computed at once, and what is kept for backward, so that a run fits into memory.

The process grows to the most of what it had before and

    memory now + weights not yet read + one step (`step_memory`) + compiled products (`product_cache`)

where the step is that of the largest batch which the run draws, reduced to the tokens it computes.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch

from strop.core.errors import UnsupportedError, spelt
from strop.core.system.disk import format_size
from strop.core.tokens import IGNORE_INDEX
from strop.forward.compaction import CompactBatch, compact_batch
from strop.forward.decoder.block_families import BLOCK_FAMILIES
from strop.models.lora.embeddings import embedding_weights
from strop.models.precision import described
from strop.planning.machine import FreeMemory, free_memory, peak_resident
from strop.planning.product_cache import batches, cache_bytes, micro_batch_sizes
from strop.planning.rewards import models_beside
from strop.planning.settings import Settings
from strop.planning.step_memory import StepMemory, step_memory

BUDGETS = (None, 32768, 16384, 8192, 4096, 2048, 1024, 512, 256)
"""Token budgets tried in turn; a row longer than the budget is still computed whole."""
ACTIVATIONS = ("keep", "checkpoint", "offload")
"""From the fastest to the leanest."""
RESERVE = 0.1
"""Share of the free memory that a plan leaves alone."""
UNKNOWN = 4096
"""Token budget for blocks that are of no known family or not all alike, whose memory is not simulated."""
DRAWN = 2000
"""Most batches drawn to see which sizes come."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepPlan:
    """What is kept for backward, how much is computed at once, and the memory that takes."""

    activations: str
    micro_batch_tokens: int | None
    peak: int | None
    """Predicted bytes of the process at its peak; None where it cannot be predicted."""
    free: int
    """Bytes that could still be taken when the plan was made."""
    sentence: str
    """The plan in words."""


TokenRow = tuple[Sequence[int], Sequence[int]]
"""Token ids and labels of a row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a run as tokens."""

    train: Sequence[TokenRow]
    held_out: Sequence[TokenRow] = ()


def plan_step(
    model: Any,
    rows: Sequence[TokenRow],
    settings: Settings,
    free: FreeMemory | None = None,
    now: "MemoryNow | None" = None,
) -> StepPlan:
    """Return the fastest way to take a step that fits into the memory that is free.

    Args:
        model: a transformers model without its adapter.
        rows: those that are trained on.
        settings: of the run; what they leave open is chosen.
        free: memory that may be taken; None asks the machine.
        now: memory before the first step; None looks at this process, which has loaded the model.

    Raises:
        UnsupportedError: the leanest step takes more than a limit allows; the text has both numbers
            and the least limit that would do.
    """
    free = free or free_memory(model.device, settings.memory)
    activations, micro_batch_tokens = settings.activations, settings.micro_batch_tokens
    drawn = DrawnRows(rows, settings)
    if not _known(model):
        budget = micro_batch_tokens or (UNKNOWN if drawn.most > UNKNOWN else None)
        lean = "keep" if activations == "auto" else activations
        text = "memory is not predicted for blocks of this kind; " + _words(lean, budget)
        return StepPlan(lean, budget, None, free.bytes, text)
    modes = ACTIVATIONS if activations == "auto" else (activations,)
    budgets: tuple[int | None, ...] = (
        BUDGETS if micro_batch_tokens is None else (micro_batch_tokens,)
    )
    if settings.update_in_backward:
        budgets = BUDGETS[:1]
    memory_now, layers = now or _memory_now(model), len(model.base_model.layers)
    beside = models_beside(settings) if memory_now.device == "cpu" else 0
    room = (1 - RESERVE) * free.bytes
    whole = _embedding_bytes(model) if settings.train_embeddings else 0
    for kind in modes:
        rank = max(settings.rank, *settings.rank_pattern.values(), 1)
        rank = 0 if settings.adapter == "none" else rank
        memory = step_memory(
            model,
            kind,
            rank=rank,
            targets=settings.modules,
            device=memory_now.device,
            update_in_backward=settings.update_in_backward,
        )
        for budget in budgets:
            worst = drawn.worst(budget)
            cut = worst < drawn.most
            shared = memory_now.missing + drawn.compiled(memory, budget) + whole + beside
            most = memory(layers, worst, min(worst, drawn.most_labels), several=cut)
            growth = shared + most
            # Without a budget the heap keeps freed blocks, and those of one batch size do not fit
            # the next: in the worst case a second step's.
            holes = most if kind == "keep" and not cut and memory_now.device == "cpu" else 0
            if growth + holes <= room:
                tokens, labels = drawn.largest(budget)
                step = min(growth - shared, memory(layers, tokens, labels, several=cut))
                peak = max(memory_now.peak, memory_now.resident + shared + step)
                return _plan(kind, budget if cut else None, peak, growth, free)
    peak = max(memory_now.peak, memory_now.resident + growth)
    if free.strict and growth > free.bytes:
        raise UnsupportedError(_too_little(growth, memory_now, free, max(drawn.lengths)))
    return _plan(kind, budget if cut else None, peak, growth, free)


def _embedding_bytes(model: Any) -> int:
    """Return the bytes of embedding and head trained in 32 bits: a copy, gradients, AdamW's means."""
    return 16 * sum(weight.numel() for weight in embedding_weights(model))


def micro_batches(rows: Sequence[TokenRow], budget: int | None) -> list[CompactBatch]:
    """Return the micro-batches of a batch, as the forward computes them."""
    shape = len(rows), max(len(ids) for ids, _ in rows)
    ids, labels, mask = (torch.full(shape, x) for x in (0, IGNORE_INDEX, 0))
    for b, (tokens, targets) in enumerate(rows):
        ids[b, : len(tokens)] = torch.tensor(tokens)
        labels[b, : len(tokens)] = torch.tensor(targets)
        mask[b, : len(tokens)] = 1
    return compact_batch(ids, labels, mask, budget=budget) or []


class DrawnRows:
    """The batches that a run draws of its rows."""

    def __init__(self, rows: Sequence[TokenRow], settings: Settings) -> None:
        self._rows = rows
        self.lengths = [len(ids) for ids, _ in rows]
        self._batch_size, self._seed = settings.batch_size, settings.seed
        each = -(-len(rows) // settings.batch_size)
        self._steps = settings.max_steps or -(-settings.epochs * each // 1)
        self.most = sum(sorted(self.lengths)[-settings.batch_size :])
        """Tokens of the longest rows that can meet in a batch."""

    @cached_property
    def most_labels(self) -> int:
        """Labels of the rows with the most of them that can meet in a batch."""
        labels = [int((np.asarray(labels) != IGNORE_INDEX).sum()) for _, labels in self._rows]
        return sum(sorted(labels)[-self._batch_size :])

    def worst(self, budget: int | None) -> int:
        """Return the most tokens that can be computed at once."""
        return min(self.most, max(budget or self.most, max(self.lengths)))

    @cached_property
    def _batches(self) -> list[list[int]]:
        steps = min(int(self._steps), DRAWN)
        return list(batches(len(self._rows), self._batch_size, steps, self._seed))

    def largest(self, budget: int | None) -> tuple[int, int]:
        """Return tokens and labels of the largest micro-batch, as the forward will compute it."""
        batch = max(self._batches, key=lambda numbers: sum(self.lengths[i] for i in numbers))
        parts = micro_batches([self._rows[i] for i in batch], budget)
        return max(((len(x.tokens), len(x.rows)) for x in parts), default=(0, 0))

    def compiled(self, memory: StepMemory, budget: int | None) -> int:
        """Return the bytes of matrix products that the run compiles."""
        if not memory.products:
            return 0
        drawn = [[self.lengths[i] for i in numbers] for numbers in self._batches]
        sizes = set(itertools.chain(*(micro_batch_sizes(batch, budget) for batch in drawn)))
        return cache_bytes(memory.products, len(sizes), len(set(itertools.chain(*drawn))))


def _plan(
    activations: str, budget: int | None, peak: int, growth: int, free: FreeMemory
) -> StepPlan:
    text = f"{_words(activations, budget)}; about {peak / 1e6:,.0f} MB at the peak"
    if growth > free.bytes:
        text += (
            f", which is {(growth - free.bytes) / 1e6:,.0f} MB more than {free.bound} leaves: "
            "a lower max_length or rank, or fewer bits, need less"
        )
    return StepPlan(activations, budget, peak, free.bytes, text)


def _too_little(growth: int, now: "MemoryNow", free: FreeMemory, longest: int) -> str:
    """Return what a limit lacks, and the least that would do."""
    least = now.resident + growth / (1 - RESERVE)
    return (
        f"{free.bound} leaves {format_size(free.bytes)} beside the {format_size(now.resident)} that "
        f"the process has, and the leanest way to take a step needs {format_size(growth)}: at least "
        f"{format_size(least)} in all would do ({spelt('memory', f'{math.ceil(least / 1e6)}MB')}). "
        f"The longest row has {longest:,} tokens and is computed at once; a lower "
        f"{spelt('max_length')} or {spelt('rank')}, a smaller model, or {spelt('bits', 4)} need less"
    )


def _words(activations: str, budget: int | None) -> str:
    text = {
        "keep": "activations kept",
        "checkpoint": "blocks recomputed in backward",
        "offload": "blocks recomputed in backward, their inputs in a file",
    }[activations]
    whole = "each batch at once" if budget is None else f"{budget:,} tokens at once"
    return f"{text}, {whole}"


def _known(model: Any) -> bool:
    """Say whether the model's blocks are of one known family and all alike."""
    blocks = getattr(model.base_model, "layers", None) or ()
    families = [BLOCK_FAMILIES.get(type(block).__name__) for block in blocks]
    return len(families) > 0 and all(f is not None and not f.hybrid for f in families)


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryNow:
    """Memory of the process before its first step."""

    resident: int
    """Bytes in memory now."""
    missing: int
    """Bytes of mapped weights that come into memory as a step reads them."""
    peak: int
    """Most bytes that were in memory so far."""
    device: str = "cpu"
    """Whose memory."""


def _memory_now(model: Any) -> MemoryNow:
    if model.device.type != "cpu":
        weights = described(model)["bytes"]
        return MemoryNow(weights, 0, weights, model.device.type)
    process = psutil.Process()
    missing = 0
    if hasattr(process, "memory_maps"):  # not on macOS
        maps = process.memory_maps(grouped=False)
        weights = [m for m in maps if m.path.endswith(".safetensors")]
        missing = sum(_size(m.addr) - m.rss for m in weights)
    return MemoryNow(process.memory_info().rss, missing, peak_resident())


def _size(address: str) -> int:
    first, _, last = address.partition("-")
    return int(last, 16) - int(first, 16)
