"""Writes a run as adapter, merged weights, GGUF, Ollama files, and certifies each of them.

Importing it loads nothing else: the processes that open an export should load only what that takes.
"""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.exporting.arguments import TARGETS
    from strop.exporting.certify.certificate import Certificate
    from strop.exporting.exporter import Exported, export

__all__ = ["TARGETS", "Certificate", "Exported", "export"]

__getattr__ = public(
    __name__,
    {
        "TARGETS": "strop.exporting.arguments",
        "Certificate": "strop.exporting.certify.certificate",
        "Exported": "strop.exporting.exporter",
        "export": "strop.exporting.exporter",
    },
)
