"""Layers that carry a state from token to token: segment by segment, each after its ancestors.

Causal convolutions, gated delta nets and state-space mixers read their input in order, and what lies
before a row in it would reach into that row. Their own arguments for row borders (`cu_seqlens`,
`seq_idx`) need packages with GPU kernels, and know no shared prefixes. `by_segments(model, segments)`
lets each such layer see every segment behind its ancestors and nothing else, for one call.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from strop.forward.decoder import attention
from strop.forward.decoder.adapters import drops_out
from strop.ops.segment_attention.segments import Segments


def mixers(model: nn.Module) -> list[nn.Module]:
    """Return the layers with a convolution over tokens, which carry a state."""
    return [m for m in model.modules() if any(isinstance(c, nn.Conv1d) for c in m.children())]


@contextlib.contextmanager
def by_segments(model: nn.Module, segments: Segments) -> Iterator[None]:
    """Let every mixer of `model` keep segments apart inside the block."""
    bound = [
        (m, vars(m).get("forward"), m.forward)
        for m in mixers(model)
        if getattr(m.forward, "func", None)
        is not _segment_by_segment  # a checkpoint's first forward is inside
    ]
    for mixer, _, forward in bound:
        mixer.forward = functools.partial(_segment_by_segment, forward, segments)
    try:
        yield
    finally:
        for mixer, before, _ in bound:
            del mixer.forward
            if before is not None:
                mixer.forward = before


def _segment_by_segment(
    forward: Callable[..., Any], segments: Segments, /, *args: Any, **settings: Any
) -> Any:
    """Return `forward` of [1, N, D] hidden rows; a prefix is read again for each child."""
    name = "hidden_states"
    hidden: Tensor = settings.pop(name) if name in settings else args[0]
    rest = args[1:] if len(args) and hidden is args[0] else args
    settings.pop("segments", None)
    if "attention_mask" in settings:
        settings["attention_mask"] = None  # there is no padding
    parts, others = [], ()
    spans = [slice(s, s + n) for s, n in zip(segments.starts, segments.lengths, strict=True)]
    for segment, length in enumerate(segments.lengths):
        path = [*reversed([*segments.ancestors(segment)]), segment]
        mixed = forward(torch.cat([hidden[:, spans[s]] for s in path], 1), *rest, **settings)
        if isinstance(mixed, tuple):
            mixed, others = mixed[0], mixed[1:]
        parts.append(mixed[:, -length:])
    joined = torch.cat(parts, 1)
    return (joined, *others) if others else joined


@dataclass(frozen=True, slots=True)
class MixerHalf:
    """The first half of a block with the mixer that transformers wrote: y = x + mixer(norm(x)).

    Autograd differentiates it and keeps what the mixer's operations keep. What `layers.block` runs
    again for backward draws the same dropout and computes under the autocast of the forward.
    """

    norm: nn.Module
    mixer: nn.Module
    recurrent: bool
    """Whether it carries a state from token to token; else it attends."""
    segments: Segments
    positions: Tensor
    """[N]"""
    angles: tuple[Tensor, Tensor]
    """Cosines and sines [1, N, 2 P]."""
    autocast: tuple[torch.dtype, bool]
    """Dtype and switch of the autocast around the block."""

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """Tensors that need a gradient, in the order of `gradients`."""
        parameters = (*self.norm.parameters(), *self.mixer.parameters())
        return tuple(p for p in parameters if p.requires_grad)

    def __call__(self, x: Tensor) -> Tensor:
        """Return y [N, D]."""
        hidden = self.norm(x)[None]
        if self.recurrent:
            return x + _segment_by_segment(self.mixer, self.segments, hidden_states=hidden)[0]
        with attention.in_use(self.mixer):
            attended, _ = self.mixer(
                hidden_states=hidden,
                attention_mask=attention.no_mask(hidden),
                position_ids=self.positions[None],
                position_embeddings=self.angles,
                segments=self.segments,
            )
        return x + attended[0]

    def masks(self, x: Tensor) -> int | None:
        """Draw a seed of the dropout inside, or None where there is none."""
        return int(torch.randint(2**63 - 1, ())) if drops_out(self.mixer) else None

    def run(
        self, x: Tensor, masks: int | None, *, finish: bool = True
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return y [N, D] and, for backward, x and y with the graph between them."""
        kind, devices = x.device.type, [x.device] if x.device.type == "cuda" else []
        leaf = x.detach().requires_grad_()
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.autocast(kind, *self.autocast, cache_enabled=False))
            if masks is not None:
                stack.enter_context(torch.random.fork_rng(devices))
                torch.manual_seed(masks)
            y = self(leaf)
        return y.detach(), (leaf, y)

    def gradients(
        self,
        dy: Tensor,
        x: Tensor,
        saved: tuple[Tensor, ...],
        masks: int | None,
        *,
        x_needs_grad: bool,
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Return the gradient of x [N, D], or None, and those of `trained`."""
        leaf, y = saved
        inputs = (leaf, *self.trained) if x_needs_grad else self.trained
        gradients: list[Tensor | None] = []
        if inputs:
            gradients += torch.autograd.grad(y, inputs, dy, allow_unused=True)
        return (gradients.pop(0) if x_needs_grad else None), gradients
