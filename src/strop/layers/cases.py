"""Small random halves of decoder blocks on which the layers are tested."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from strop.layers.attention_half import Attended, AttentionHalf
from strop.layers.mlp_half import MlpHalf
from strop.layers.norm import Norm
from strop.ops.lora_linear.parts import LinearParts, Workspace
from strop.ops.segment_attention.segments import Segments

N, D, H, K, C, F, R = 23, 12, 4, 2, 6, 10, 3
SEGMENTS = Segments((11, 5, 1, 6), (None, 0, 1, 0))
ADAPTERS = ("none", "lora", "some", "dora", "dropout", "weights")
"""Kinds of adapter; "some" leaves layers without one, "weights" trains those of layers and norms."""


@dataclass(frozen=True, slots=True)
class Case:
    """Shape, adapters and dtype of a half."""

    adapter: str = "lora"
    post_norm: bool = False
    head_norms: bool = False
    window: int | None = None
    softcap: float | None = None
    dtype: torch.dtype = torch.float64
    one_product: bool = False
    """Whether q, k and v, or gate and up, are one layer (Phi-3)."""
    seed: int = 0
    adapter_dtype: torch.dtype | None = None
    """None: the same as `dtype`."""

    def x(self) -> Tensor:
        """Return [N, D], the same each time."""
        return self._random()(N, D)

    def attention(self) -> AttentionHalf:
        """Build the attention half, the same each time."""
        random = self._random()
        heights = [(H + 2 * K) * C] if self.one_product else [H * C, K * C, K * C]
        angles = 9 * random(N, C // 2 - 1)
        return AttentionHalf(
            norm=self._norm(random, D),
            qkv=tuple(self._linear(random, E, D, i != 1) for i, E in enumerate(heights)),
            o=self._linear(random, D, H * C, False),
            heads=H,
            key_heads=K,
            features=C,
            scale=0.4,
            window=self.window,
            softcap=self.softcap,
            q_norm=self._norm(random, C) if self.head_norms else None,
            k_norm=self._norm(random, C) if self.head_norms else None,
            post_norm=self._norm(random, D) if self.post_norm else None,
            attended=Attended(SEGMENTS, angles.cos(), angles.sin()),
            workspace=Workspace(),
        )

    def mlp(self) -> MlpHalf:
        """Build the MLP half, the same each time."""
        random = self._random()
        heights = [2 * F] if self.one_product else [F, F]
        return MlpHalf(
            norm=self._norm(random, D),
            gate_up=tuple(self._linear(random, E, D, i == 0) for i, E in enumerate(heights)),
            down=self._linear(random, D, F, False),
            activation="gelu_tanh" if self.post_norm else "silu",
            post_norm=self._norm(random, D) if self.post_norm else None,
            workspace=Workspace(),
        )

    def _random(self) -> Callable[..., Tensor]:
        rng = torch.Generator().manual_seed(self.seed)
        return lambda *shape: torch.randn(shape, generator=rng, dtype=torch.float64).to(self.dtype)

    def _norm(self, random: Callable[..., Tensor], size: int) -> Norm:
        weight = random(size).requires_grad_(self.adapter == "weights")
        return Norm(weight, 1e-5, unit_offset=self.post_norm)  # both as Gemma has them

    def _linear(
        self, random: Callable[..., Tensor], E: int, width: int, adapted: bool
    ) -> LinearParts:
        weight, bias = random(E, width) / width**0.5, random(E)
        if self.adapter == "none" or (self.adapter == "some" and not adapted):
            return LinearParts(weight, bias)
        if self.adapter == "weights":
            return LinearParts(weight.requires_grad_(), bias.requires_grad_())
        dtype = self.adapter_dtype or self.dtype
        a = (random(R, width) / width**0.5).to(dtype).requires_grad_()
        b = random(E, R).to(dtype).requires_grad_()
        dora = self.adapter == "dora"
        magnitude = random(E).abs().add(0.5).to(dtype).requires_grad_() if dora else None
        share = 0.4 if self.adapter == "dropout" else 0.0
        return LinearParts(weight, bias, a, b, 0.7, magnitude, share)
