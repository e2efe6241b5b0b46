"""A model without weights, laid out as training finds it: formats, adapter, ties."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from strop.core.quiet import quiet
from strop.models.files.opening import read_config
from strop.models.lora.config import config_for
from strop.models.lora.target_modules import adapted_sides, stacked_experts
from strop.models.precision import Bits, store_narrow
from strop.models.quantized.hf_quantizer import empty_layer
from strop.models.quantized.on_load import quantisable


def outline(
    config: Mapping[str, Any] | str,
    *,
    bits: Bits,
    dtype: torch.dtype,
    rank: int,
    targets: str | Sequence[str] = "all-linear",
) -> Any:
    """Return a model on the meta device, as `strop.load` and a trainer would make it, PEFT's adapter in it.

    Args:
        config: of a transformers model: what config.json holds, or the folder where it lies.
        bits: the frozen weights are held in; see `strop.load`.
        dtype: products run in.
        rank: of the adapter; 0 leaves it out, and the weights are trained.
        targets: layers that get an adapter, as PEFT takes them.
    """
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    if isinstance(config, str):
        known = read_config(Path(config))
    else:
        kind = {k: v for k, v in config.items() if k != "model_type"}
        known = AutoConfig.for_model(config["model_type"], **kind)
    narrow = dtype == torch.float32 and bits != 32
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known, dtype=torch.bfloat16 if narrow else dtype)
        if bits == 4:
            for name, form in list(quantisable(model)):
                model.set_submodule(name, empty_layer(model.get_submodule(name), form))
        if narrow:
            store_narrow(model, dtype)
        if not rank:
            return model.train()
        with quiet():
            return get_peft_model(model, config_for(model, rank, rank, targets)).train()


def rank_parameters(model: Any, targets: str | Sequence[str]) -> int:
    """Return the parameters that an adapter of a model has for each rank, as PEFT builds it."""
    if not stacked_experts(model):
        return sum(map(sum, adapted_sides(model, targets)))
    config = model.config.to_dict()
    meta = outline(config, bits=16, dtype=torch.bfloat16, rank=1, targets=targets)
    return sum(p.numel() for p in meta.parameters() if p.requires_grad)


def shapes(folder: Path, first: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a model's weights, in its order but for those of some layers before all.

    Args:
        folder: of the model; its files may store_narrow codes, which have no shape.
        first: names of the layers.
    """
    from transformers import AutoModelForCausalLM

    config = read_config(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tied = model.all_tied_weights_keys
    untied = {key: tuple(t.shape) for key, t in model.state_dict().items() if key not in tied}
    begin = [f"{name}.weight" for name, _ in model.named_modules() if name in first]
    return {name: untied[name] for name in begin} | untied
