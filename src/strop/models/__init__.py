"""Finds and loads models, puts our layers in and takes them out, holds the one forward seam.

Importing it lets transformers open models that strop has quantised.
"""

import strop.models.quantizer  # noqa: F401 - registers itself with transformers
from strop.models.dtype import compute_dtype
from strop.models.generation import complete, reply
from strop.models.loading import load, resolve
from strop.models.packaged import PACKAGED

__all__ = ["PACKAGED", "complete", "compute_dtype", "load", "reply", "resolve"]
