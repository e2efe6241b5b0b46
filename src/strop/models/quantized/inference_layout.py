"""The layout that bitsandbytes gives 4-bit weights for inference on a CPU with AVX512-BF16.

It is taken on in the first call in eval mode, for good, and passes no gradient to a layer's input.
"""

from collections.abc import Callable

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
