"""The layers that get an adapter: which a model has, and which of them are stacked experts."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strop.core.errors import ConfigError
from strop.forward.decoder.experts import is_mixture
from strop.models.files.opening import read_config


def peft_targets(model: Any, targets: str | Sequence[str]) -> dict[str, Any]:
    """Return `target_modules` and, where there are any, `target_parameters` of PEFT's configuration.

    Of mixtures of experts PEFT takes the stacked weights by itself for families that it converts from
    the names of before transformers 5; for the others they are named here.

    Args:
        model: a transformers model without an adapter.
        targets: `all-linear`, or as `check_model` takes them.
    """
    stacks = stacked_experts(model)
    if isinstance(targets, str):
        chosen = sorted(
            {".".join(p.split(".")[-2:]) for p in stacks} if targets == "all-linear" else ()
        )
        modules: Any = targets
    else:
        chosen = [t for t in targets if any(_matches(targets, t, path) for path in stacks)]
        modules = [t for t in targets if t not in chosen]
    return {"target_modules": modules} | ({"target_parameters": chosen} if chosen else {})


def stacked_experts(model: Any) -> dict[str, tuple[int, int, int]]:
    """Return the weights of stacked experts of a model by path: experts, inputs and outputs of each."""
    stacks = {}
    for path, module in model.named_modules():
        if not is_mixture(module):
            continue
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim == 3:
                experts, *sides = weight.shape
                inputs, outputs = sides if module.is_transposed else reversed(sides)
                stacks[f"{path}.{name}"] = experts, inputs, outputs
    return stacks


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
    experts = stacked_experts(model)
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
        stacks = sorted({".".join(path.split(".")[-2:]) for path in experts})
        raise ConfigError(
            f"target_modules cannot be used: {'; '.join(wrong)}. The model's linear layers are "
            f"{', '.join(known)}"
            + (f", and its stacked experts {', '.join(stacks)}" if stacks else "")
        )


def adapted_sides(model: Any, targets: str | Sequence[str]) -> list[tuple[int, int]]:
    """Return inputs and outputs of each linear layer with an adapter that a token goes through.

    Args:
        model: a transformers model without an adapter.
        targets: `all-linear`, or as `check_model` takes them.
    """
    head = model.get_output_embeddings()
    every = targets == "all-linear"
    names = [targets] if isinstance(targets, str) else targets

    def chosen(path: str) -> bool:
        return every or any(_matches(targets, n, path) for n in names)

    of_each = getattr(model.config.get_text_config(), "num_experts_per_tok", None) or 1
    return [
        _sides(module)
        for path, module in model.named_modules()
        if path and _is_linear(module) and chosen(path) and not (every and module is head)
    ] + [
        (inputs, outputs)
        for path, (_, inputs, outputs) in stacked_experts(model).items()
        if chosen(path)
        for _ in range(of_each)
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
