"""A model opened in another number format than its files have, without a copy of the files in memory."""

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
    model: 0.80 GB for a model of 0.27 GB whose files are in float32, here 0.29 GB (SmolLM2-135M).

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
    slices = {name: files[tensor.path].get_slice(name) for name, tensor in stored.items()}
    model, report = type(skeleton).from_pretrained(
        None,
        config=skeleton.config,
        state_dict=slices,
        generation_config=generation,
        **options,
    )
    model.name_or_path = model.config.name_or_path = str(folder)
    return model, report
