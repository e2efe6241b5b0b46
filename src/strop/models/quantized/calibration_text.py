"""Sequences of text that quantisation is calibrated and measured on."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import DataError
from strop.core.tokens import context_length

LENGTH = 512
"""Tokens of a sequence of calibration text."""
SEQUENCES = 16
"""Of calibration text at most, and half as many held out."""
DEFAULT_TEXT = Path(__file__).parents[2] / "quantization" / "calibration.txt"


def sequences(tokenizer: Any, calibrate: Any, model: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return sequences [T] to calibrate on and sequences to measure on.

    Args:
        tokenizer: of the model.
        calibrate: what `strop.data.read` takes, or None for the packaged text.
        model: whose context bounds T.

    Raises:
        DataError: the text is too short for two sequences.
    """
    context = context_length(model.config) or LENGTH
    T = min(LENGTH, context)
    ids = list(_tokens(tokenizer, calibrate))
    whole = len(ids) // T
    if whole < 2:
        raise DataError(
            f"the calibration text has {len(ids)} tokens; it needs at least two sequences of {T}, "
            "one to calibrate on and one to measure on: give more text"
        )
    rows = torch.tensor(ids[: whole * T], device=model.device).view(whole, T)
    aside = torch.zeros(whole, dtype=torch.bool)
    aside[3::4] = True
    aside[-1] |= not aside.any()
    return list(rows[~aside][:SEQUENCES]), list(rows[aside][: SEQUENCES // 2])


def _tokens(tokenizer: Any, calibrate: Any) -> Iterable[int]:
    from strop.data import encode_all, read

    rows = read(DEFAULT_TEXT if calibrate is None else calibrate)
    for example in encode_all(rows.rows, tokenizer):
        yield from example.ids
