"""An adapter that starts where it makes good for what quantisation did, in PEFT's format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError, DataError, ShapeError, spelt
from strop.core.files import reading
from strop.models.lora.config import lora_config
from strop.quantization.error_adapter import Correction

FOLDER = "lora_init"
"""Beside the weights of a quantised model."""
_PREFIX = "base_model.model."


def write(folder: Path, corrections: Mapping[str, Correction], rank: int, base: str) -> None:
    """Write corrections as an adapter that `PeftModel.from_pretrained` opens; its scale is 1.

    The adapter does not start at zero: the model it belongs to is the quantised one with it, and
    merging it means the stored weight plus B A, never the original weight plus B A.

    Args:
        folder: made by this call.
        corrections: by the name of their layer.
        rank: of all of them.
        base: what the adapter says it belongs to.
    """
    from safetensors.torch import save_file

    lora_config(
        rank,
        rank,
        sorted({name.rpartition(".")[2] for name in corrections}),
        base_model_name_or_path=base,
        inference_mode=True,
    ).save_pretrained(folder)
    tensors = {}
    for name, correction in corrections.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = correction.a.cpu()
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = correction.b.cpu()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def check(model: Any, rank: int) -> None:
    """Look for the start of an adapter in the folder of a quantised model.

    Raises:
        ConfigError: there is none, or it is of another rank.
    """
    from peft import LoraConfig

    folder = Path(model.name_or_path) / FOLDER
    if not folder.is_dir():
        raise ConfigError(
            f"lora_init is quantization_error, and {model.name_or_path} holds none; write one with "
            f"strop quantize MODEL --adapter-rank {rank} --out FOLDER and train with "
            f"{spelt('model', 'FOLDER')}"
        )
    with reading(folder, "quantise the model anew"):
        stored = LoraConfig.from_pretrained(folder).r
    if stored != rank:
        raise ConfigError(
            f"rank is {rank}, and the start of an adapter in {folder} has rank {stored}; "
            f"train with {spelt('rank', stored)}, or quantise the model anew with --adapter-rank {rank}"
        )


@torch.no_grad()
def begin(model: Any, folder: Path) -> int:
    """Let the fresh adapter of a PEFT model start at the correction that lies in `folder`.

    Layers without an adapter are left as they are, whatever the adapter's scale.

    Args:
        model: a PEFT model with one LoRA adapter, on the quantised model of `folder`.
        folder: what `write` made.

    Returns:
        How many layers start at their correction.

    Raises:
        DataError: the folder holds no such adapter.
        ShapeError: the adapter has another rank than the correction.
    """
    from peft.tuners.lora import Linear
    from safetensors.torch import load_file

    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        raise DataError(
            f"{folder} holds no start for an adapter; quantise the model anew with adapter_rank"
        )
    with reading(file, "quantise the model anew"):
        stored, begun = load_file(file), 0
    for name, layer in model.named_modules():
        a = stored.get(f"{_PREFIX}{name.removeprefix(_PREFIX)}.lora_A.weight")
        if a is None or not isinstance(layer, Linear):
            continue
        b = stored[f"{_PREFIX}{name.removeprefix(_PREFIX)}.lora_B.weight"]
        (adapter,) = layer.active_adapters
        lora_a, lora_b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        if lora_a.shape != a.shape:
            raise ShapeError(
                f"the adapter of {name} has rank {lora_a.shape[0]} and the start in {folder} has "
                f"rank {a.shape[0]}; use {spelt('rank', a.shape[0])}"
            )
        lora_a.copy_(a)
        lora_b.copy_(b / layer.scaling[adapter])
        begun += 1
    return begun
