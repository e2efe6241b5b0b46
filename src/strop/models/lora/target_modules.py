"""The check that the layers named for an adapter are linear layers which the model has."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strop.core.errors import ConfigError
from strop.models.files.opening import read_config


def check_folder(folder: Path, targets: str | Sequence[str]) -> None:
    """Check what `check_model` does for the model in a folder, before its weights are read."""
    from transformers import AutoModelForCausalLM

    config = read_config(folder)
    with torch.device("meta"):
        check_model(AutoModelForCausalLM.from_config(config), targets)


def check_model(model: Any, targets: str | Sequence[str]) -> None:
    """Refuse names that stand for no linear layer of the model's blocks.

    Args:
        model: a transformers model without an adapter.
        targets: as PEFT takes them: a list of names, each the end of a layer's path; or a regular
            expression for whole paths.

    Raises:
        ConfigError: names the wrong ones, and those that the model has.
    """
    paths = {path: module for path, module in model.named_modules() if path}
    experts = [path for path, tensor in model.named_parameters() if tensor.ndim == 3]
    ends = {
        id(
            model.get_output_embeddings()
        ): "gives the scores of the vocabulary, which are computed from "
        "its weight alone, so that an adapter on it would not be trained",
        id(model.get_input_embeddings()): "is the embedding, of which exports write no adapter",
    }
    wrong = []
    for target in [targets] if isinstance(targets, str) else targets:
        hit = [path for path in paths if _matches(targets, target, path)]
        if not hit and not any(_matches(targets, target, path) for path in experts):
            wrong.append(f"{target} stands for no layer")
        for reason in dict.fromkeys(ends[id(paths[p])] for p in hit if id(paths[p]) in ends):
            name = next(p for p in hit if ends.get(id(paths[p])) == reason)
            wrong.append(f"{name} {reason}")
        others = [p for p in hit if id(paths[p]) not in ends and not _is_linear(paths[p])]
        if others:
            wrong.append(f"{others[0]} is {type(paths[others[0]]).__name__}, not a linear layer")
    if wrong:
        known = sorted(
            {
                path.rpartition(".")[2]
                for path, module in paths.items()
                if _is_linear(module) and id(module) not in ends
            }
        )
        raise ConfigError(
            f"target_modules cannot be used: {'; '.join(wrong)}. The model's linear layers are "
            f"{', '.join(known)}"
        )


def adapted_sides(model: Any, targets: str | Sequence[str]) -> list[tuple[int, int]]:
    """Return inputs and outputs of each linear layer that gets an adapter.

    Args:
        model: a transformers model without an adapter.
        targets: `all-linear`, or as `check_model` takes them.
    """
    head = model.get_output_embeddings()
    every = targets == "all-linear"
    names = [targets] if isinstance(targets, str) else targets
    return [
        _sides(module)
        for path, module in model.named_modules()
        if path
        and _is_linear(module)
        and (module is not head if every else any(_matches(targets, n, path) for n in names))
    ]


def _sides(layer: Any) -> tuple[int, int]:
    if hasattr(layer, "in_features"):
        return layer.in_features, layer.out_features
    inputs, outputs = layer.weight.shape
    return inputs, outputs


def _matches(targets: str | Sequence[str], target: str, path: str) -> bool:
    if isinstance(targets, str):
        return re.fullmatch(target, path) is not None
    return path == target or path.endswith(f".{target}")


def _is_linear(module: nn.Module) -> bool:
    """Say whether a module multiplies by a matrix, quantised or not; GPT-2 calls that Conv1D."""
    return hasattr(module, "in_features") or type(module).__name__ == "Conv1D"
