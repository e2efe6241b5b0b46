"""A model opened in another number format than its files have, without a copy of the files in memory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from strop.models.files.weight_files import StoredTensor

_CODES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def is_cast(stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> bool:
    """Whether a tensor of the files becomes another one in `dtype`."""
    return any(_CODES.get(tensor.code, dtype) != dtype for tensor in stored.values())


def open_cast(
    folder: Path,
    skeleton: Any,
    stored: Mapping[str, StoredTensor],
    generation: Any,
    **options: Any,
) -> tuple[Any, Any]:
    """Return the model in a folder and transformers' report, each tensor read and cast by itself.

    A file that is mapped into memory stays there whole until its last tensor is read, beside the
    model: 0.80 GB for a model of 0.27 GB whose files are in float32, here 0.29 GB (SmolLM2-135M). Large
    tensors are read and cast in blocks of rows.

    Args:
        folder: of the model.
        skeleton: the model without its weights, of the class and configuration to open.
        stored: what its files hold.
        generation: its generation settings.
        options: further arguments of transformers' `from_pretrained`.
    """
    from safetensors import safe_open

    files = {
        path: safe_open(path, framework="pt", backend="pread")
        for path in {tensor.path for tensor in stored.values()}
    }
    dtype = options["dtype"]
    mixed = bool(skeleton._get_dtype_plan(dtype))  # some stay in float32
    slices = {
        name: _Blocks(name, tensor, dtype)
        if _is_large(tensor, dtype) and not mixed
        else files[tensor.path].get_slice(name)
        for name, tensor in stored.items()
    }
    model, report = type(skeleton).from_pretrained(
        None,
        config=skeleton.config,
        state_dict=slices,
        generation_config=generation,
        **options,
    )
    model.name_or_path = model.config.name_or_path = str(folder)
    return model, report


BLOCK = 32_000_000
"""Bytes of a tensor that are read at once, where it has more."""


def _is_large(tensor: StoredTensor, dtype: torch.dtype) -> bool:
    code = _CODES.get(tensor.code, dtype)
    return code != dtype and math.prod(tensor.shape) * code.itemsize > BLOCK


class _Blocks:
    """A tensor of a file as transformers takes it, read and cast a block of rows at a time.

    A slice of safetensors 0.8 that reads with `pread` has the whole tensor in memory twice, and reads
    the whole of it for every part asked for; a map of the file gives its pages back when it is closed.
    """

    def __init__(self, name: str, stored: StoredTensor, dtype: torch.dtype) -> None:
        self._name, self._stored, self._dtype = name, stored, dtype

    def get_shape(self) -> list[int]:
        return list(self._stored.shape)

    def get_dtype(self) -> str:
        return self._stored.code

    def __getitem__(self, index: Any) -> torch.Tensor:
        from safetensors import safe_open

        shape = self._stored.shape
        row = math.prod(shape[1:]) * _CODES[self._stored.code].itemsize
        rows = max(1, BLOCK // row)
        tensor = torch.empty(shape, dtype=self._dtype)
        for first in range(0, len(tensor), rows):
            with safe_open(self._stored.path, framework="pt") as file:
                block = slice(first, first + rows)
                tensor[block] = file.get_slice(self._name)[block]
        return tensor[index]
