"""Which files hold a model's weights in a given number of bits, and in what dtype they are opened."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError, UnsupportedError, spelt
from strop.core.progress import Progress, silent
from strop.models.dtype import compute_dtype
from strop.models.files.opening import read_config
from strop.models.precision import NARROW
from strop.models.quantized.bitsandbytes import read_states
from strop.models.quantized.hf_quantizer import METHOD
from strop.models.quantized.on_load import packed_folder

BITS = (4, 16, 32)
DTYPES = (torch.float32, *NARROW)


@dataclass(frozen=True, slots=True)
class Weights:
    """What is given to transformers to open a model."""

    folder: Path
    """Of the weights: the model's own, or one in the cache."""
    config: Any
    dtype: Any
    """Of what is not quantised; "auto" as it is stored."""
    narrow: bool
    """Linear weights and embeddings are stored in 16 bits and computed in float32."""


def choose(
    folder: Path, bits: int | None, dtype: torch.dtype | None, progress: Progress = silent
) -> Weights:
    """Return how to open the model in `folder` with weights of so many bits, computing in `dtype`.

    `progress` is called while weights are fitted to 4 bits.

    Raises:
        ConfigError: `bits` or `dtype` is none of these, or the folder is quantised and more are asked for.
        UnsupportedError: it is quantised in a way that strop does not read, or cannot be quantised.
        DataError: the weights are damaged.
    """
    if bits is not None and bits not in BITS:
        raise ConfigError(f"bits is {bits!r}; it must be 4, 16 or 32")
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; it must be one of {', '.join(map(str, DTYPES))}")
    if bits == 32 and dtype in NARROW:
        raise ConfigError(f"bits is 32 and dtype {dtype}; weights of 32 bits compute in float32")
    config = read_config(folder, log_ties=True)
    stored = _stored(config)
    if stored is not None and bits not in (None, 4):
        raise ConfigError(
            f"bits is {bits}, but the weights in {folder} are quantised; use {spelt('bits', 4)}, or "
            "the unquantised model"
        )
    if stored is None and bits == 4:
        folder = packed_folder(folder, progress)
        config = read_config(folder)
        stored = _stored(config)
    dtype = (
        torch.float32
        if bits == 32
        else dtype or compute_dtype(config, 4 if stored is not None else 16)
    )
    narrow = dtype == torch.float32 and bits != 32
    if stored is not None:
        config.quantization_config = _quantisation(folder, stored, as_stored=narrow)
    return Weights(folder, config, "auto" if narrow else dtype, narrow)


def _stored(config: Any) -> dict[str, Any] | None:
    quantization = getattr(config, "quantization_config", None)
    return None if quantization is None else dict(quantization)


def _quantisation(folder: Path, stored: dict[str, Any], *, as_stored: bool) -> dict[str, Any]:
    """Return what `StropConfig` is made of: transformers makes it, of a dictionary."""
    if stored.get("load_in_4bit") or stored.get("load_in_8bit"):
        states = read_states(folder, stored)
        return {"quant_method": METHOD, "modules": states, "as_stored": as_stored}
    method = stored.get("quant_method")
    if method != METHOD:
        raise UnsupportedError(
            f"{folder} is quantised by {method}; strop reads its own folders and 4-bit checkpoints "
            "of bitsandbytes, or quantises the unquantised model itself"
        )
    return {**stored, "as_stored": as_stored}
