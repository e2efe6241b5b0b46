"""strop fine-tunes open language models on the hardware people have.

Importing it is free: nothing heavy is loaded until a name below is used.
"""

from typing import TYPE_CHECKING

from strop.core.lazy import public

if TYPE_CHECKING:
    from strop.exporting.exporter import export
    from strop.models import Sampling, load, sample
    from strop.models.quantized.folder import quantize
    from strop.training import Run, accelerate, restore, train

__version__ = "0.1.0"
__all__ = [
    "Run",
    "Sampling",
    "__version__",
    "accelerate",
    "data",
    "export",
    "load",
    "quantize",
    "restore",
    "sample",
    "train",
]

__getattr__ = public(
    __name__,
    {
        "Run": "strop.runs.run",
        "Sampling": "strop.models.sampling.settings",
        "accelerate": "strop.training.acceleration",
        "data": "strop.data",
        "export": "strop.exporting.exporter",
        "load": "strop.models.loading",
        "quantize": "strop.models.quantized.folder",
        "restore": "strop.training.acceleration",
        "sample": "strop.models.sampling.answering",
        "train": "strop.training.fine_tuning",
    },
)
