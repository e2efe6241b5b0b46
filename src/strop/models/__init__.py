"""Finds and loads models, puts our layers in and takes them out, holds the one forward seam.

Importing it lets transformers open models that strop has quantised.
"""

from typing import TYPE_CHECKING

from strop.core.lazy import public
from strop.models.quantized.hf_registration import register

if TYPE_CHECKING:
    from strop.models.dtype import compute_dtype
    from strop.models.generation import complete, reply
    from strop.models.loading import load, resolve
    from strop.models.packaged import PACKAGED

__all__ = ["PACKAGED", "complete", "compute_dtype", "load", "reply", "resolve"]


register()

__getattr__ = public(
    __name__,
    {
        "PACKAGED": "strop.models.packaged",
        "complete": "strop.models.generation",
        "compute_dtype": "strop.models.dtype",
        "load": "strop.models.loading",
        "reply": "strop.models.generation",
        "resolve": "strop.models.loading",
    },
)
