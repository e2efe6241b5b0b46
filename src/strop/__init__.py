"""strop fine-tunes open language models on the hardware people have.

Importing it is free: nothing heavy is loaded until a name below is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from strop.exporting.exporter import export
    from strop.models import load
    from strop.models.quantized.folder import quantize
    from strop.training import Run, accelerate, restore, train

__version__ = "0.1.0"
__all__ = [
    "Run",
    "__version__",
    "accelerate",
    "data",
    "export",
    "load",
    "quantize",
    "restore",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name == "data":
        import strop.data

        return strop.data
    if name == "export":
        from strop.exporting.exporter import export

        return export
    if name == "load":
        from strop.models import load

        return load
    if name == "quantize":
        from strop.models.quantized.folder import quantize

        return quantize
    if name in ("Run", "accelerate", "restore", "train"):
        from strop import training

        return getattr(training, name)
    raise AttributeError(f"strop has no public name {name!r}; it has {', '.join(__all__)}")
