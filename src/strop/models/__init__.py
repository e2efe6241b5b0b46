"""Finds and loads models, puts our layers in and takes them out, holds the one forward seam.

Importing it lets transformers open models that strop has quantised.
"""

from typing import TYPE_CHECKING

from strop.core.lazy import public
from strop.models.quantized.hf_registration import register

if TYPE_CHECKING:
    from strop.models.dtype import compute_dtype
    from strop.models.loading import load, resolve
    from strop.models.packaged import PACKAGED
    from strop.models.sampling import Answer, Sampling, complete, reply, sample

__all__ = [
    "PACKAGED",
    "Answer",
    "Sampling",
    "complete",
    "compute_dtype",
    "load",
    "reply",
    "resolve",
    "sample",
]


register()

__getattr__ = public(
    __name__,
    {
        "PACKAGED": "strop.models.packaged",
        "Answer": "strop.models.sampling.rows",
        "Sampling": "strop.models.sampling.settings",
        "complete": "strop.models.sampling.answering",
        "compute_dtype": "strop.models.dtype",
        "load": "strop.models.loading",
        "reply": "strop.models.sampling.answering",
        "resolve": "strop.models.loading",
        "sample": "strop.models.sampling.answering",
    },
)
