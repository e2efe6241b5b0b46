"""An RMS norm as the halves of a block use it, without autograd."""

from dataclasses import dataclass

from torch import Tensor

from strop.ops.lora_linear.parts import Gradients
from strop.ops.rms_norm import passes


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMS norm of a decoder block."""

    weight: Tensor
    """[D], or [C] for a norm of each head."""
    eps: float
    unit_offset: bool

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """The weight, if it is trained."""
        return (self.weight,) if self.weight.requires_grad else ()

    def forward(self, x: Tensor, *, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return y, in `out` if given, and the row scales; see `ops.rms_norm.eager.forward`."""
        return passes(x).forward(x, self.weight, self.eps, self.unit_offset, out=out)

    def backward(
        self, dy: Tensor, x: Tensor, scale: Tensor, *, out: Tensor | None = None
    ) -> tuple[Tensor, Gradients]:
        """Return the gradient of x, in `out` if given, and those of `trained`.

        See `ops.rms_norm.eager.backward`.
        """
        needed = self.weight.requires_grad
        dx, dweight = passes(x).backward(
            dy, x, self.weight, scale, self.unit_offset, weight_needs_grad=needed, out=out
        )
        return dx, [dweight] if needed else []
