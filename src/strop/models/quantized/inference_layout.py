"""The layout that bitsandbytes gives 4-bit weights for inference on a CPU with AVX512-BF16.

It is taken on in the first call in eval mode, for good, and passes no gradient to a layer's input.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn


def packed_for_inference(model: nn.Module) -> str | None:
    """Return the name of a layer whose 4-bit weight has that layout, or None."""
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):
            return name
    return None


def keep_layout(model: nn.Module) -> Callable[[], None]:
    """Keep bitsandbytes from packing 4-bit weights anew until the function returned is called."""
    packing = [m for m in model.modules() if getattr(m, "support_avx512bf16_for_cpu", False)]
    for module in packing:
        module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]

    def undo() -> None:
        for module in packing:
            module.support_avx512bf16_for_cpu = True  # type: ignore[assignment]

    return undo


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Let every module of a model be in eval mode inside the block.

    A model with something to train keeps the layout of its 4-bit weights, as it may train on.
    """
    training = [module for module in model.modules() if module.training]
    trained = any(parameter.requires_grad for parameter in model.parameters())
    restore_layout = keep_layout(model) if trained else None
    model.eval()
    try:
        yield
    finally:
        if restore_layout is not None:
            restore_layout()
        for module in training:
            module.training = True
