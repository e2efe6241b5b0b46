"""Writes a run as adapter, merged weights, GGUF, Ollama files, and certifies each of them."""

import sys
import types
from typing import Any

from strop.export.certificate import Certificate
from strop.export.exporting import TARGETS, Exported, export

__all__ = ["TARGETS", "Certificate", "Exported", "export"]


class _Callable(types.ModuleType):
    """This package under its name `strop.export`, which is also the function."""

    def __call__(self, run: Any, *targets: str, **settings: Any) -> list[Exported]:
        """Write a run for other programs; see `strop.export.export`."""
        return export(run, *targets, **settings)


sys.modules[__name__].__class__ = _Callable
