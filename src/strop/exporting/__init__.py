"""Writes a run as adapter, merged weights, GGUF, Ollama files, and certifies each of them.

Importing it loads nothing else: the processes that open an export should load only what that takes.
"""

import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.exporting.certify.certificate import Certificate
    from strop.exporting.exporter import Exported, export
    from strop.exporting.targets import TARGETS

__all__ = ["TARGETS", "Certificate", "Exported", "export"]


class _Callable(types.ModuleType):
    """This package under its name `strop.exporting`, which is also the function."""

    def __call__(self, run: Any, *targets: str, **settings: Any) -> "list[Exported]":
        """Write a run for other programs; see `strop.exporting.exporter.export`."""
        from strop.exporting.exporter import export

        return export(run, *targets, **settings)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name == "Certificate":
        from strop.exporting.certify.certificate import Certificate

        return Certificate
    if name == "TARGETS":
        from strop.exporting.targets import TARGETS

        return TARGETS
    if name in ("Exported", "export"):
        from strop.exporting import exporter as exporting

        return getattr(exporting, name)
    raise AttributeError(
        f"strop.exporting has no public name {name!r}; it has {', '.join(__all__)}"
    )


sys.modules[__name__].__class__ = _Callable
