"""Time a linear layer with an adapter: python -m strop.ops.lora_linear.bench_lora_linear."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from strop.ops import lora_linear as operation
from strop.ops.lora_linear.cases import TIMED, Case
from strop.ops.lora_linear.parts import LinearParts
from strop.testing import bench


@dataclasses.dataclass(frozen=True)
class Trained:
    """A case whose only leaf holds x, A and B, so that the gradients of all three are timed."""

    case: Case

    def __str__(self) -> str:
        return str(self.case)

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        tensors = (*self.case.inputs(device), *self.case.trained(device))
        return (torch.cat([t.flatten() for t in tensors]),)

    def settings(self, device: str) -> dict[str, Any]:
        tensors = (*self.case.inputs(device), *self.case.trained(device))
        return {"shapes": [t.shape for t in tensors], "part": self.case.part(device=device)}


def lora_linear(
    together: Tensor, shapes: list[torch.Size], part: LinearParts, *, impl: str
) -> Tensor:
    pieces = together.split([shape.numel() for shape in shapes])
    x, a, b, *rest = (piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True))
    magnitude = rest[0] if rest else None
    part = dataclasses.replace(part, a=a, b=b, magnitude=magnitude)
    return operation.lora_linear(x, part, impl=impl)


if __name__ == "__main__":
    for line in bench.run(lora_linear, "eager", [Trained(case) for case in TIMED]):
        print(line, flush=True)
