"""A module of a model replaced by its name."""

from torch import nn


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` into `model` in place of the one called `name`."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)
