"""Token ids and labels as every package reads them: the ignored label, common prefixes, context."""

from typing import Any

IGNORE_INDEX = -100
"""Label of a token that carries no loss, as in PyTorch's cross entropy."""


def common_prefix(a: Any, b: Any) -> int:
    """Return the number of leading elements two sequences or one-dimensional arrays share."""
    n = min(len(a), len(b))
    same = a[:n] == b[:n]
    if isinstance(same, bool):
        return n if same else next(i for i in range(n) if a[i] != b[i])
    return n if same.all() else int(same.argmin())


def context_length(config: Any) -> int | None:
    """Return the most positions of a language model by its transformers configuration, if it says."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit
