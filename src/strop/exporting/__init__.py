"""Writes a run as adapter, merged weights, GGUF, Ollama files, and certifies each of them.

Importing it loads nothing else: the processes that open an export should load only what that takes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.exporting.certify.certificate import Certificate
    from strop.exporting.exporter import Exported, export
    from strop.exporting.targets import TARGETS

__all__ = ["TARGETS", "Certificate", "Exported", "export"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name == "Certificate":
        from strop.exporting.certify.certificate import Certificate

        return Certificate
    if name == "TARGETS":
        from strop.exporting.targets import TARGETS

        return TARGETS
    if name in ("Exported", "export"):
        from strop.exporting import exporter

        return getattr(exporter, name)
    raise AttributeError(
        f"strop.exporting has no public name {name!r}; it has {', '.join(__all__)}"
    )
