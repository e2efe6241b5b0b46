"""Number formats of GGUF: encoding and decoding of rows."""

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, LlamaFileType, quants
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray
from torch import Tensor

FILE_TYPES = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": (Type.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "q5_1": (Type.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "q5_k": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_S),
    "q5_0": (Type.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_k_m": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    "q4_1": (Type.Q4_1, LlamaFileType.MOSTLY_Q4_1),
    "q4_k": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_S),
    "q4_0": (Type.Q4_0, LlamaFileType.MOSTLY_Q4_0),
    "iq4_nl": (Type.IQ4_NL, LlamaFileType.MOSTLY_IQ4_NL),
    "iq4_xs": (Type.IQ4_XS, LlamaFileType.MOSTLY_IQ4_XS),
    "q3_k": (Type.Q3_K, LlamaFileType.MOSTLY_Q3_K_S),
    "q2_k": (Type.Q2_K, LlamaFileType.MOSTLY_Q2_K),
}
"""Formats that --quant names: ggml's type of every matrix, and the type of the file."""

INSTEAD = {
    Type.Q6_K: Type.Q8_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q4_K: Type.Q5_0,
    Type.IQ4_XS: Type.IQ4_NL,
    Type.Q3_K: Type.IQ4_NL,
    Type.Q2_K: Type.IQ4_NL,
}
"""Formats of blocks of 32, for rows that 256 does not divide (llama.cpp, src/llama-quant.cpp)."""

_BY_GGUF = {Type.Q8_0, Type.Q5_1, Type.Q5_0, Type.Q4_1, Type.Q4_0, Type.BF16}
"""Formats that the gguf package can write; the others only llama.cpp can."""
_UNWEIGHED = {Type.Q8_0, Type.BF16}
"""Written the same whatever matters more."""
_LEAST = 1e-6
"""Floor of an importance, over the mean of all."""


def fitting(preferred: Type, shape: tuple[int, ...]) -> Type:
    """Return the format of a tensor.

    Vectors stay in F32; rows that no block divides get the next format of smaller blocks, or F16.
    """
    if len(shape) < 2:
        return Type.F32
    for kind in (preferred, INSTEAD.get(preferred, Type.F16)):
        if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0:
            return kind
    return Type.F16


def with_more_bits(quant: str, name: str, depth: int, *, tied: bool) -> bool:
    """Return whether a tensor gets Q6_K in a file of a format that ends in `_m`.

    llama.cpp's rule: the head, and of the values of attention and the last matrices of MLPs those of
    the first eighth of the blocks, of the last, and of every third between.

    Args:
        quant: a name of `FILE_TYPES`.
        name: GGUF's, of the tensor.
        depth: blocks of the model.
        tied: the embedding is the head.
    """
    if not quant.endswith("_m"):
        return False
    if name == ("token_embd.weight" if tied else "output.weight"):
        return True
    _, _, place = name.partition("blk.")
    index, _, part = place.partition(".")
    if part not in ("attn_v.weight", "ffn_down.weight"):
        return False
    block, eighth = int(index), depth // 8
    return block < eighth or block >= 7 * depth // 8 or (block - eighth) % 3 == 2


def row_bytes(kind: Type, width: int) -> int:
    """Return the bytes of a row of `width` values."""
    block, size = GGML_QUANT_SIZES[kind]
    return width // block * size


def encode(rows: Tensor, kind: Type, importance: Tensor | None = None) -> NDArray[np.uint8]:
    """Return rows in a number format, as bytes.

    Args:
        rows: [N, D] float32, or a vector.
        kind: whose blocks divide D.
        importance: [D] by which the squares of errors are weighed; None weighs all the same.

    Raises:
        MissingPackageError: the format is one that only llama.cpp can write.
    """
    if kind == Type.F32:
        return rows.contiguous().numpy().view(np.uint8)
    if kind == Type.F16:
        return rows.contiguous().to(torch.float16).numpy().view(np.uint8)
    if kind in _BY_GGUF and (importance is None or kind in _UNWEIGHED):
        return quants.quantize(rows.contiguous().numpy(), kind).view(np.uint8)
    from strop.exporting.gguf.llama_cpp import quantized

    if importance is not None:
        importance = importance.clamp_min(_LEAST * float(importance.mean()))
    return quantized(rows, kind, importance)


def decode(stored: NDArray[np.uint8], kind: Type) -> Tensor:
    """Return the values of rows in a number format: float32 [N, D]."""
    return torch.from_numpy(np.require(quants.dequantize(stored, kind), requirements="W"))
