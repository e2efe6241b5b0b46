"""Lets transformers open folders that strop has quantised, at no cost to those who never do."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

QUANTISERS = "transformers.quantizers.auto"
"""The module with transformers' list of methods. A second of imports come with it."""


def register() -> None:
    """Add the method "strop" to transformers' list, now if it is there, else when it is imported."""
    if QUANTISERS in sys.modules:
        _add()
    else:
        sys.meta_path.insert(0, _Waiting())


def _add() -> None:
    import strop.models.quantized.hf_quantizer  # noqa: F401 - registers itself


class _Waiting(importlib.abc.MetaPathFinder):
    """Finds what others find, and adds to the one module that it waits for."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != QUANTISERS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Adding(spec.loader)
        return spec


class _Adding(importlib.abc.Loader):
    """Loads as another loader does, then adds strop's method."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _add()
