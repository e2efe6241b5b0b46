"""Full fine-tuning: which weights are trained in place of an adapter's, and the file that holds them.

The file is an adapter's, whose tensors are whole weights: they replace those of the base, as what PEFT
calls `modules_to_save` does. Exports, evaluations and chats read it as any adapter.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from strop.core.errors import ConfigError, DataError
from strop.core.files import read_json, reading, write_json
from strop.models.lora.embeddings import widen_copies
from strop.models.precision import bits_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_AGAIN = "put the folder back from a copy of the run"
KIND = "full_weights"
"""Name in the settings of such a file."""


def train_all(model: Any, frozen: Sequence[str] = ()) -> None:
    """Let every weight of a model be trained, but those that are named.

    Weights that lie in a mapped file are copied into memory, where an optimizer can change them.

    Args:
        model: a transformers model of 16 or 32 bits.
        frozen: names or regular expressions for parts of a path, as `embed_tokens` or `layers.[0-5]`.

    Raises:
        ConfigError: a name stands for no weight, or nothing is left to train.
    """
    if bits_of(model) == 4:
        raise ConfigError(
            "the weights of the model have 4 bits, which cannot be trained themselves; load it with "
            "bits=32, or leave adapter none out"
        )
    names = [name for name, _ in model.named_parameters()]
    fitting = {pattern: [n for n in names if matches(pattern, n)] for pattern in frozen}
    if absent := [pattern for pattern, hit in fitting.items() if not hit]:
        kinds = sorted({re.sub(r"\d+", "0", name).removesuffix(".weight") for name in names})
        raise ConfigError(
            f"freeze has {', '.join(absent)}, which stands for no weight; the model has "
            f"{', '.join(kinds)}"
        )
    still = {name for hit in fitting.values() for name in hit}
    if len(still) == len(names):
        raise ConfigError("freeze leaves nothing to train; name fewer weights")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in still)
        if parameter.requires_grad:
            parameter.data = parameter.data.clone()


def matches(pattern: str, name: str) -> bool:
    """Say whether a pattern stands for one or more whole parts of a weight's path."""
    return re.search(rf"(?:^|\.)(?:{pattern})(?:\.|$)", name) is not None


def is_full(folder: Path) -> bool:
    """Say whether a folder holds whole weights rather than an adapter.

    Raises:
        DataError: its settings cannot be read.
    """
    return bool(read_json(folder / CONFIG).get(KIND))


def save(model: Any, folder: Path, base: str | None) -> None:
    """Write the trained weights of a model, under the names that PEFT gives them.

    Args:
        model: whose weights are trained.
        folder: exists, or is made.
        base: name of the model that they are of.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        _PREFIX + name: p.detach().contiguous()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config: dict[str, Any] = {
        "base_model_name_or_path": base,
        KIND: True,
        "lora_alpha": 1,
        "peft_type": "LORA",
        "r": 1,
        "target_modules": [],
        "task_type": "CAUSAL_LM",
    }
    write_json(folder / CONFIG, config)


def as_trained(model: Any, folder: Path) -> Any:
    """Return a model with the adapter of a folder in it, or with its weights, in eval mode.

    Raises:
        DataError: the folder is of another model, or damaged.
    """
    if is_full(folder):
        load_into(model, folder)
        return model.eval()
    from peft import PeftModel
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    with reading(folder, _AGAIN):
        tuned = PeftModel.from_pretrained(model, folder).eval()
        if widen_copies(tuned):  # PEFT rounded them to the base's format
            set_peft_model_state_dict(tuned, load_peft_weights(str(folder), device="cpu"))
        return tuned


@torch.no_grad()
def load_into(model: Any, folder: Path) -> None:
    """Replace weights of a model by those in a folder.

    Raises:
        DataError: they are of another model, or the file is damaged.
    """
    from safetensors import safe_open

    parameters = dict(model.named_parameters())
    file = folder / WEIGHTS
    with reading(file, _AGAIN), safe_open(file, framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118 - it is no dict
            name = key.removeprefix(_PREFIX)
            tensor = tensors.get_tensor(key)
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise DataError(
                    f"{file} has {name}, which the model has not in this shape; {_AGAIN}"
                )
            parameters[name].data = tensor.to(parameters[name].device, copy=True)
