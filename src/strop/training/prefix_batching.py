"""Rows that begin alike go into one micro-batch, where strop computes what they share once.

The micro-batches of one optimizer step are consecutive batches of the sampler. Rows change places
inside such a window only, so each step is made of the same rows; a window without a shared prefix,
or without anything to gain, keeps its order.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from strop.core.tokens import IGNORE_INDEX, common_prefix
from strop.forward.compaction import SHORTEST_PREFIX

COLUMN, LABELS = "input_ids", "labels"
KNOWN_PACKAGES = ("transformers.", "trl.", "strop.")
"""Packages whose trainers' methods are known."""
Undo = Callable[[], None]


class PrefixOrder(torch.utils.data.Sampler[int]):
    """Another sampler's rows, rearranged inside windows of `steps * batch` rows."""

    def __init__(self, inner: Any, dataset: Any, batch: int, steps: int) -> None:
        """Wrap `inner`, a sampler of `dataset`; a micro-batch is `batch` rows, a window `steps` of them."""
        self.inner, self.dataset, self.batch, self.steps = inner, dataset, batch, steps

    def __len__(self) -> int:
        return len(self.inner)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch to the sampler inside."""
        if hasattr(self.inner, "set_epoch"):
            self.inner.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        window: list[int] = []
        for index in self.inner:
            window.append(index)
            if len(window) == self.batch * self.steps:
                yield from (window[i] for i in arranged(self._read(window), self.batch))
                window = []
        yield from window  # not a whole step: its last micro-batch may be smaller, and weigh more

    def _read(self, window: list[int]) -> list[np.ndarray]:
        """Return the tokens of rows; none of one that carries no label, as none is computed."""
        columns = self.dataset[window]
        rows = [np.asarray(row) for row in columns[COLUMN]]
        if LABELS not in columns:
            return rows
        scored = (np.any(np.asarray(row) != IGNORE_INDEX) for row in columns[LABELS])
        return [row if has_label else row[:0] for row, has_label in zip(rows, scored, strict=True)]


def arrange(trainer: transformers.Trainer) -> Undo:
    """Rearrange the rows of each optimizer step of `trainer`; return what undoes it.

    Call it only where `obstacle` returns None.
    """
    previous, bound = trainer.get_train_dataloader, vars(trainer).get("get_train_dataloader")

    def get_train_dataloader() -> Any:
        loader: Any = previous()
        args = trainer.args
        steps = args.gradient_accumulation_steps * args.world_size
        inner = loader.get_sampler() if hasattr(loader, "get_sampler") else None
        columns = getattr(loader.dataset, "column_names", None) or ()
        if steps > 1 and inner is not None and COLUMN in columns:
            rows = loader.dataset.select_columns([c for c in (COLUMN, LABELS) if c in columns])
            # Not args.train_batch_size: auto_find_batch_size halves the trainer's own.
            loader.set_sampler(PrefixOrder(inner, rows, trainer._train_batch_size, steps))
        return loader

    trainer.get_train_dataloader = get_train_dataloader

    def undo() -> None:
        if bound is None:
            del trainer.get_train_dataloader
        else:
            trainer.get_train_dataloader = bound

    return undo


def obstacle(trainer: transformers.Trainer) -> str | None:
    """Return why the loss of a step is not known to be a sum over tokens with one denominator.

    None if rows may change places between micro-batches: TRL's own compute_loss divides the sum of
    each by `num_items_in_batch`, the labelled tokens of the whole step on all processes.
    """
    args: Any = trainer.args
    if getattr(args, "loss_type", None) != "nll":
        return "its loss is no plain sum over tokens"
    kind = type(trainer)
    if not kind.compute_loss.__module__.startswith(KNOWN_PACKAGES) or "compute_loss" in vars(
        trainer
    ):
        return "its compute_loss is not TRL's"
    if not kind.training_step.__module__.startswith(KNOWN_PACKAGES) or "training_step" in vars(
        trainer
    ):
        return "its training_step is not TRL's"
    if (
        getattr(trainer, "compute_loss_func", None) is not None
        or trainer.label_smoother is not None
    ):
        return "its loss is made of logits"
    if getattr(trainer, "aux_loss_enabled", False):
        return "a router loss is a mean over each micro-batch"
    if not trainer.model_accepts_loss_kwargs or not _counts_items(trainer):
        return "the loss of each micro-batch is divided by its own number of tokens"
    if args.n_gpu > 1:
        return "each device divides by a rounded number of tokens"
    if args.world_size > 1 and not args.average_tokens_across_devices:
        return "each process divides by its own number of tokens"
    if args.world_size > 1 and (
        args.accelerator_config.split_batches or args.accelerator_config.dispatch_batches
    ):
        return "a process gets its rows from another's batch"
    return None


def _counts_items(trainer: transformers.Trainer) -> bool:
    """Return True if the code that counts a step's tokens is that of transformers."""
    kind = type(trainer)
    return all(
        getattr(kind, name).__module__.startswith(KNOWN_PACKAGES) and name not in vars(trainer)
        for name in ("get_batch_samples", "_get_num_items_in_batch")
    )


def arranged(rows: Sequence[np.ndarray], batch: int) -> list[int]:
    """Return the order of `rows` in which micro-batches of `batch` rows have fewest tokens to compute.

    That of the rows themselves if nothing is gained. Groups of rows that begin alike are placed
    largest first, each where it fits or, in parts, where there is most room.
    """
    before = [*range(len(rows))]
    places: list[list[int]] = [[] for _ in range(0, len(rows), batch)]
    for group in sorted(_groups(rows), key=len, reverse=True):
        rest = group
        while rest:
            fits = (place for place in places if batch - len(place) >= len(rest))
            place = next(fits, None) or min(places, key=len)
            room = batch - len(place)
            place += rest[:room]
            rest = rest[room:]
    after = [i for place in places for i in sorted(place)]
    return after if _tokens(rows, after, batch) < _tokens(rows, before, batch) else before


def _groups(rows: Sequence[np.ndarray]) -> list[list[int]]:
    """Return the rows that share a prefix with one another, neighbours in the order of their tokens."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].tolist())
    groups: list[list[int]] = []
    for i in order:
        if groups and _common(rows[groups[-1][-1]], rows[i]):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _tokens(rows: Sequence[np.ndarray], order: Sequence[int], batch: int) -> int:
    """Return how many tokens micro-batches in this order have, a shared prefix counted once."""
    total = sum(row.size for row in rows)
    for start in range(0, len(order), batch):
        together = sorted((rows[i] for i in order[start : start + batch]), key=np.ndarray.tolist)
        total -= sum(map(_common, together, together[1:]))
    return total


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Return how many leading tokens two rows share, 0 if too few to be worth it."""
    shared = common_prefix(a, b)
    return shared if shared >= SHORTEST_PREFIX else 0
