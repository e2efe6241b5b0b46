"""The seam into layers that carry a state from token to token: run by run, each after its ancestors.

Causal convolutions, gated delta nets and state-space mixers read their input in order, and what lies
before a row in it would reach into that row. Their own arguments for row borders (`cu_seqlens`,
`seq_idx`) need packages with GPU kernels, and know no shared prefixes. `by_runs(model, segments)`
lets each such layer see every run of tokens behind its ancestors and nothing else, for the time of one
call.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from strop.ops.segment_attention.segments import Segments


def mixers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that hold a convolution over tokens, and so a state."""
    return [m for m in model.modules() if any(isinstance(c, nn.Conv1d) for c in m.children())]


@contextlib.contextmanager
def by_runs(model: nn.Module, segments: Segments) -> Iterator[None]:
    """Let every mixer of `model` keep runs of tokens apart inside the block."""
    bound = [
        (m, vars(m).get("forward"), m.forward)
        for m in mixers(model)
        if getattr(m.forward, "func", None) is not _run_by_run  # a checkpoint's first run is inside
    ]
    for mixer, _, forward in bound:
        mixer.forward = functools.partial(_run_by_run, forward, segments)
    try:
        yield
    finally:
        for mixer, before, _ in bound:
            del mixer.forward
            if before is not None:
                mixer.forward = before


def _run_by_run(
    forward: Callable[..., Any], segments: Segments, /, *args: Any, **settings: Any
) -> Any:
    """Return what `forward` gives for [1, N, D] hidden rows; a prefix is read again for each child."""
    name = "hidden_states"
    hidden: Tensor = settings.pop(name) if name in settings else args[0]
    rest = args[1:] if len(args) and hidden is args[0] else args
    settings.pop("segments", None)
    if "attention_mask" in settings:
        settings["attention_mask"] = None  # there is no padding
    parts, others = [], ()
    for run, length in enumerate(segments.lengths):
        path = [*reversed([*segments.ancestors(run)]), run]
        seen = [
            hidden[:, segments.starts[r] : segments.starts[r] + segments.lengths[r]] for r in path
        ]
        mixed = forward(torch.cat(seen, 1), *rest, **settings)
        if isinstance(mixed, tuple):
            mixed, others = mixed[0], mixed[1:]
        parts.append(mixed[:, -length:])
    joined = torch.cat(parts, 1)
    return (joined, *others) if others else joined
