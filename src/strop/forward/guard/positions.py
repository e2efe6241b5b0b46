"""Rotary frequencies that follow the longest row of a batch."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from strop.forward.compaction import CompactBatch
from strop.forward.guard.ways import Way


def switched(
    model: Any,
    ids: Tensor,
    position_ids: Tensor | None,
    micro_batches: Sequence[CompactBatch],
    way: Way,
) -> str | None:
    """Return why micro-batches of a batch would be rotated by other frequencies than the batch, or None.

    Dynamic frequencies grow with the longest row of a batch, padding included; those of longrope are
    one of two sets by whether it is beyond the length that the model was first trained on.
    """
    kinds = list(_frequencies(model))
    if not kinds:
        return None
    T = ids.shape[1] if position_ids is None else int(position_ids.max()) + 1
    for kind, limit in kinds:
        ends = [int(micro_batch.positions.max()) + 1 for micro_batch in micro_batches]
        if kind == "dynamic" or way.name == "rows":
            same = limit > T
        else:
            same = all((limit < T) == (end > limit) for end in ends)
        if not same:
            return f"its rotary frequencies ({kind}) follow the longest row of the batch"
    return None


def _frequencies(model: Any) -> Iterator[tuple[str, int]]:
    """Yield kind and first length of each set of rotary frequencies that lengths change."""
    config = model.config.get_text_config()
    given = getattr(config, "rope_parameters", None) or {}
    each = given.values() if all(isinstance(v, dict) for v in given.values()) else [given]
    for parameters in each:
        kind = parameters.get("rope_type")
        if kind == "longrope":
            yield kind, int(parameters["original_max_position_embeddings"])
        elif kind == "dynamic":
            yield kind, int(config.max_position_embeddings)
