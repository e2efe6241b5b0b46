"""The number formats of GGUF, and how rows are put into them."""

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, LlamaFileType, quants
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from torch import Tensor

from strop.core.errors import ConfigError

FILE_TYPES = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q5_1": (Type.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "q5_0": (Type.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_1": (Type.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "q4_0": (Type.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
"""What --quant takes: the format of every matrix, and what the file says of itself."""


def check_quants(names: tuple[str, ...]) -> None:
    """Check what --quant names.

    Raises:
        ConfigError: lists the names that are not known.
    """
    if unknown := [name for name in names if name not in FILE_TYPES]:
        raise ConfigError(
            f"--quant {','.join(unknown)} is not known; choose from {', '.join(FILE_TYPES)}"
        )


def fitting(wanted: Type, shape: tuple[int, ...]) -> Type:
    """Return the format of a tensor: vectors stay in F32, rows that no block divides in F16."""
    if len(shape) < 2:
        return Type.F32
    block, _ = GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block == 0 else Type.F16


def row_bytes(kind: Type, width: int) -> int:
    """Return the bytes of a row of `width` values."""
    block, size = GGML_QUANT_SIZES[kind]
    return width // block * size


def encode(rows: Tensor, kind: Type) -> NDArray[np.uint8]:
    """Return rows in a number format, as bytes.

    Args:
        rows: [N, D] float32, or a vector.
        kind: whose blocks divide D.
    """
    if kind == Type.F32:
        return rows.contiguous().numpy().view(np.uint8)
    if kind == Type.F16:
        return rows.contiguous().to(torch.float16).numpy().view(np.uint8)
    return quants.quantize(rows.contiguous().numpy(), kind).view(np.uint8)
