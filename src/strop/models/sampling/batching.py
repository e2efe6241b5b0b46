"""Continuous batching: rows that have finished leave, waiting ones come in."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from torch import Tensor

from strop.models.quantized.inference_layout import evaluating
from strop.models.sampling.block_cache import BlockCache, obstacle
from strop.models.sampling.choice import Choose, choose
from strop.models.sampling.rows import Row
from strop.models.sampling.transformers_cache import TransformersCache

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 64
"""Rows of a batch; the weights are read once for all of them."""
TOKENS_AT_ONCE = 4096
"""Tokens of prompts that are computed at once."""


class Engine(Protocol):
    """What computes the logits of rows and has the keys and values of their tokens."""

    def start(self, rows: Sequence[Row]) -> Tensor:
        """Take rows in and return the logits [B, V] of their first tokens."""

    def step(self, rows: Sequence[Row]) -> Tensor:
        """Take in the last token of each row and return the logits [B, V] of the next ones.

        Rows that are not named any more are dropped.
        """


def chosen_tokens(
    model: Any, tokenizer: Any, rows: Sequence[Row], in_step: Choose | None = None
) -> Iterator[Row]:
    """Yield a row each time that a token was added to it, until all have finished.

    The model is in eval mode meanwhile, and afterwards as it was.

    Args:
        model: see `strop.sample`.
        tokenizer: see `strop.sample`.
        rows: without any token yet.
        in_step: chooses their tokens, and they all begin at once.
    """
    waiting = sorted(rows, key=lambda row: row.prompt)[::-1]  # those that begin alike come together
    active: list[Row] = []
    with evaluating(model):
        engine: Engine
        if (why := obstacle(model)) is None:
            engine = BlockCache(model, rows)
        else:
            log.debug("answers come through transformers' cache: %s", why)
            engine = TransformersCache(model)
        while waiting or active:
            if in_step is None:
                entering = _entering(waiting, len(active))
            else:
                entering, waiting = waiting[::-1], []
            for batch, compute in ((active, engine.step), (entering, engine.start)):
                if batch:
                    for row, token, log_prob in zip(
                        batch, *(in_step or choose)(compute(batch), batch), strict=True
                    ):
                        row.take(token, log_prob, tokenizer)
                        yield row
            active = [row for row in (*active, *entering) if row.finish_reason is None]


def _entering(waiting: list[Row], active: int) -> list[Row]:
    """Take the rows that come in now: a quarter of a batch at least, as far as there are any."""
    free = ROWS_AT_ONCE - active
    if active and free < ROWS_AT_ONCE // 4:
        return []
    rows: list[Row] = []
    tokens = 0
    while waiting and len(rows) < free:
        if not rows or waiting[-1].prompt != rows[-1].prompt:
            tokens += len(waiting[-1].prompt)
        if rows and tokens > TOKENS_AT_ONCE:
            break
        rows.append(waiting.pop())
    return rows
