"""The attention half of a decoder block as one function: x + W_o attend(rope(W_qkv norm(x)))."""

from dataclasses import dataclass

import torch
from torch import Tensor

from strop.layers.norm import Norm
from strop.ops import rope
from strop.ops.lora_linear import eager as linear
from strop.ops.lora_linear.parts import Gradients, LinearParts, Workspace
from strop.ops.segment_attention import eager as attention
from strop.ops.segment_attention.segments import Segments


@dataclass(frozen=True, slots=True)
class Attended:
    """Segments and rotary angles of the tokens; the same for all blocks of one kind."""

    segments: Segments
    cos: Tensor
    """[N, P]"""
    sin: Tensor
    """[N, P]"""


@dataclass(frozen=True, slots=True)
class AttentionHalf:
    """The attention half of one block.

        h = norm(x);  q, k, v = W_qkv h;  q, k = rope(head_norm(q, k))
        y = x + post_norm(W_o attend(q, k, v))

    Kept for backward with activations="keep", in numbers per token:

        D + (H + 2 K) C + H C  +  1 + H        and with a post-norm  D  +  1

    In the dtype of x are x itself, q, k and v (before head norms and rotation; without head norms,
    rotated), the attention's output and the post-norm's input; in float32 or wider are the norms'
    row scales and the log-sum-exp. Dropout adds one byte for each input of each adapter.
    """

    norm: Norm
    qkv: tuple[LinearParts, ...]
    o: LinearParts
    heads: int
    key_heads: int
    features: int
    """C, of one head."""
    scale: float
    window: int | None
    softcap: float | None
    q_norm: Norm | None
    k_norm: Norm | None
    post_norm: Norm | None
    attended: Attended
    workspace: Workspace

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """Tensors that may need a gradient, in the order of `gradients`."""
        parts = (self.norm, *self.qkv, self.o, self.q_norm, self.k_norm, self.post_norm)
        return tuple(t for part in parts if part is not None for t in part.trained)

    def masks(self, x: Tensor) -> tuple[linear.Masks, linear.Masks]:
        """Draw what the adapters do not see: of the block's input, and of the attention's output."""
        width = self.heads * self.features
        wide = x.new_empty(len(x), width) if self.o.dropout else x
        return linear.draw_masks(x, self.qkv), linear.draw_masks(wide, (self.o,))

    def run(
        self, x: Tensor, masks: tuple[linear.Masks, linear.Masks], *, finish: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """Return y [N, D] and what backward needs beside x.

        Args:
            x: [N, D].
            masks: from `masks`.
            finish: False leaves out y, when only the tensors for backward are needed again.
        """
        h, scale = self.norm.forward(x, out=self.workspace.take("normed", x.shape, x))
        qkv = linear.forward(h, self.qkv, masks[0], self.workspace)
        q, k, v, _ = self._rotated(qkv, fresh=True)
        out, lse = attention.forward(q, k, v, *self._settings())
        saved = (scale, qkv, out, lse)
        flat = out.flatten(1)
        if self.post_norm is None:
            if not finish:
                return None, saved
            return linear.forward(flat, (self.o,), masks[1], self.workspace, add_to=x), saved
        projected = linear.forward(flat, (self.o,), masks[1], self.workspace)
        y, post_scale = self.post_norm.forward(projected)
        return y.add_(x), (*saved, projected, post_scale)

    def gradients(
        self,
        dy: Tensor,
        x: Tensor,
        saved: tuple[Tensor, ...],
        masks: tuple[linear.Masks, linear.Masks],
        *,
        x_needs_grad: bool,
    ) -> tuple[Tensor | None, Gradients]:
        """Return the gradient of x [N, D], or None, and those of `trained`."""
        scale, qkv, out, lse, *post = saved
        above, post_gradients = dy, Gradients()
        if self.post_norm is not None:
            above, post_gradients = self.post_norm.backward(dy, *post)
        o = (self.o,), masks[1], self.workspace
        lifted = linear.lift(above, *o[:2])
        o_gradients = linear.adapter_gradients(above, out.flatten(1), *o, lifted)
        dout = linear.input_gradient(above, *o, lifted)
        q, k, v, scales = self._rotated(qkv, fresh=False)
        dqkv = torch.empty_like(qkv)
        parts = self._split(dqkv)
        attention.backward(dout.view(out.shape), q, k, v, out, lse, *self._settings(), into=parts)
        self._rotate(self._q_and_k(dqkv), inverse=True)
        before, head_gradients = self._split(qkv), Gradients()
        for i, head_scale in enumerate(scales):
            head_norm = self.q_norm if i == 0 else self.k_norm
            assert head_norm is not None
            head_gradients += head_norm.backward(parts[i], before[i], head_scale, out=parts[i])[1]
        h, _ = self.norm.forward(x, out=self.workspace.take("normed", x.shape, x))
        qkv_parts = self.qkv, masks[0], self.workspace
        lifted = linear.lift(dqkv, *qkv_parts[:2])
        gradients = linear.adapter_gradients(dqkv, h, *qkv_parts, lifted)
        gradients += o_gradients + head_gradients + post_gradients
        if not x_needs_grad and not self.norm.trained:
            return None, gradients
        dh = linear.input_gradient(dqkv, *qkv_parts, lifted)
        dx, norm_gradients = self.norm.backward(dh, x, scale, out=dh)
        return dx.add_(dy) if x_needs_grad else None, norm_gradients + gradients

    def keys_and_values(self, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the rotated keys and the values [N, K, C] of what `run` saved."""
        _, k, v = self._split(saved[1])
        if self.k_norm is None:
            return k, v  # rotated where they lie
        return self._rotate(self.k_norm.forward(k)[0]), v

    def _split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """View [N, (H + 2 K) C] as q [N, H, C], k and v [N, K, C]."""
        by_head = qkv.view(len(qkv), -1, self.features)
        q, k, v = by_head.split([self.heads, self.key_heads, self.key_heads], 1)
        return q, k, v

    def _q_and_k(self, qkv: Tensor) -> Tensor:
        """View the heads of [N, (H + 2 K) C] that are rotated: [N, H + K, C]."""
        return qkv.view(len(qkv), -1, self.features)[:, : self.heads + self.key_heads]

    def _rotated(
        self, qkv: Tensor, *, fresh: bool
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """Return q and k with norms and rotation applied, v, and the scales of the head norms.

        Without head norms a `fresh` product is rotated where it lies, and is then not fresh any more.
        """
        q, k, v = self._split(qkv)
        scales: list[Tensor] = []
        if self.q_norm is None or self.k_norm is None:
            if fresh:
                self._rotate(self._q_and_k(qkv))
            return q, k, v, ()
        turned = []
        for name, part, head_norm in (("queries", q, self.q_norm), ("keys", k, self.k_norm)):
            unit, head_scale = head_norm.forward(
                part, out=self.workspace.take(name, part.shape, part)
            )
            turned.append(self._rotate(unit))
            scales.append(head_scale)
        return turned[0], turned[1], v, tuple(scales)

    def _rotate(self, x: Tensor, *, inverse: bool = False) -> Tensor:
        """Rotate heads [N, ..., C] where they lie, and return them."""
        return rope.passes(x).rotate_(x, self.attended.cos, self.attended.sin, inverse)

    def _settings(self) -> tuple[Segments, float, int | None, float | None]:
        return self.attended.segments, self.scale, self.window, self.softcap
