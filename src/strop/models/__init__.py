"""Finds and loads models, puts our layers in and takes them out, holds the one forward seam.

Importing it lets transformers open models that strop has quantised.
"""

from typing import TYPE_CHECKING, Any

from strop.models.quantized.hf_registration import register

if TYPE_CHECKING:
    from strop.models.dtype import compute_dtype
    from strop.models.generation import complete, reply
    from strop.models.loading import load, resolve
    from strop.models.packaged import PACKAGED

__all__ = ["PACKAGED", "complete", "compute_dtype", "load", "reply", "resolve"]


register()


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562): few callers need all of transformers."""
    if name == "PACKAGED":
        from strop.models.packaged import PACKAGED

        return PACKAGED
    if name == "compute_dtype":
        from strop.models.dtype import compute_dtype

        return compute_dtype
    if name in ("complete", "reply"):
        from strop.models import generation

        return getattr(generation, name)
    if name in ("load", "resolve"):
        from strop.models import loading

        return getattr(loading, name)
    raise AttributeError(f"strop.models has no public name {name!r}; it has {', '.join(__all__)}")
