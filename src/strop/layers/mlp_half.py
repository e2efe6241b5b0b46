"""The MLP half of a decoder block as one function: x + W_down glu(W_gate_up norm(x))."""

from dataclasses import dataclass

from torch import Tensor

from strop.layers.norm import Norm
from strop.ops import glu
from strop.ops.lora_linear import eager as linear
from strop.ops.lora_linear.parts import Gradients, LinearParts, Workspace


@dataclass(frozen=True, slots=True)
class MlpHalf:
    """The MLP half of one block.

        h = norm(x);  y = x + post_norm(W_down (act(W_gate h) * W_up h))

    Kept for backward with activations="keep", in numbers per token:

        D + 2 F  +  1        and with a post-norm  D  +  1

    In the dtype of x are x itself, gate and up, and the post-norm's input; in float32 or wider are
    the norms' row scales. Dropout adds one byte for each input of each adapter. The activation is
    computed again.
    """

    norm: Norm
    gate_up: tuple[LinearParts, ...]
    down: LinearParts
    activation: str
    post_norm: Norm | None
    workspace: Workspace

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """Tensors that may need a gradient, in the order of `gradients`."""
        parts = (self.norm, *self.gate_up, self.down, self.post_norm)
        return tuple(t for part in parts if part is not None for t in part.trained)

    def masks(self, x: Tensor) -> tuple[linear.Masks, linear.Masks]:
        """Draw what the adapters do not see: of the half's input, and of the activation."""
        wide = x.new_empty(len(x), self.down.weight.shape[1]) if self.down.dropout else x
        return linear.draw_masks(x, self.gate_up), linear.draw_masks(wide, (self.down,))

    def run(
        self, x: Tensor, masks: tuple[linear.Masks, linear.Masks], *, finish: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """Return y [N, D] and what backward needs beside x; see `AttentionHalf.run`."""
        h, scale = self.norm.forward(x, out=self.workspace.take("normed", x.shape, x))
        gate_up = linear.forward(h, self.gate_up, masks[0], self.workspace)
        saved = (scale, gate_up)
        if not finish and self.post_norm is None:
            return None, saved
        act = glu.passes(gate_up).forward(gate_up, self.activation, out=self._activations(gate_up))
        if self.post_norm is None:
            return linear.forward(act, (self.down,), masks[1], self.workspace, add_to=x), saved
        projected = linear.forward(act, (self.down,), masks[1], self.workspace)
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
        scale, gate_up, *post = saved
        above, post_gradients = dy, Gradients()
        if self.post_norm is not None:
            above, post_gradients = self.post_norm.backward(dy, *post)
        down = (self.down,), masks[1], self.workspace
        lifted = linear.lift(above, *down[:2])
        dact = linear.input_gradient(above, *down, lifted)
        act = self._activations(gate_up) if self.down.trained else None
        dgate_up = glu.passes(gate_up).backward(dact, gate_up, self.activation, act=act)
        down_gradients = [] if act is None else linear.adapter_gradients(above, act, *down, lifted)
        h, _ = self.norm.forward(x, out=self.workspace.take("normed", x.shape, x))
        gate_up_parts = self.gate_up, masks[0], self.workspace
        lifted = linear.lift(dgate_up, *gate_up_parts[:2])
        gradients = linear.adapter_gradients(dgate_up, h, *gate_up_parts, lifted)
        gradients += down_gradients + post_gradients
        if not x_needs_grad and not self.norm.trained:
            return None, gradients
        dh = linear.input_gradient(dgate_up, *gate_up_parts, lifted)
        dx, norm_gradients = self.norm.backward(dh, x, scale, out=dh)
        return dx.add_(dy) if x_needs_grad else None, norm_gradients + gradients

    def _activations(self, gate_up: Tensor) -> Tensor:
        """Return where the activation [N, F] of gate and up is written, from layer to layer the same.

        A fresh buffer would lie between tensors kept for backward, and its place would then be too
        small for the next one: glibc needs more than the size where tensors begin at whole 64 bytes.
        """
        N, width = gate_up.shape
        return self.workspace.take("activation", (N, width // 2), gate_up)
