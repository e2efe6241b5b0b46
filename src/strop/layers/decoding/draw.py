"""The next tokens of rows of logits, drawn in one call of C++."""

from collections.abc import Callable
from pathlib import Path

from strop.core import native

SOURCE = Path(__file__).with_name("draw.cpp")


def function() -> Callable[..., None] | None:
    """Return the compiled draw, or None where there is no compiler.

    It takes scores [B, V] that tokens are drawn of and logits [B, V] whose log-probabilities are
    returned, both float32; of each row temperature, top-k, top-p, min-p and a number in [0, 1),
    [B, 5] in float64; then where tokens (int64) and log-probabilities (float32) go, B, V and threads.
    """
    return native.function(SOURCE, "draw", "pppppqqi")
