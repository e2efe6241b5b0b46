"""What is written for each target: which folders, of what size, and by whom they are opened."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strop.export.adapter import Adapter
from strop.export.forms import Form
from strop.export.gguf_adapter import FILE, GgufAdapter
from strop.export.gguf_base import GgufBase
from strop.export.gguf_file import GgufFile
from strop.export.merged import Merged
from strop.export.tuned import TunedWeights
from strop.models.frame import Frame

TARGETS = ("adapter", "merged", "gguf")
Count = Callable[[int], None]
"""Called with the bytes that are written."""


@dataclass(frozen=True, slots=True)
class Job:
    """One folder that is to be written."""

    target: str
    format: str
    nbytes: int
    write: Callable[[Path, Count], None]
    """Makes the folder."""
    opened: str = ""
    """The file in the folder that its loader is given; empty: the folder."""
    base: GgufBase | None = None
    """Of an adapter that is laid over a file which is not in the folder."""

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"{self.target}-{self.format}" if self.target == "gguf" else self.target


@dataclass(frozen=True, slots=True)
class Tuned:
    """What is exported."""

    settings: dict[str, Any]
    """Of the run."""
    weights: TunedWeights
    frame: Frame


def jobs(
    targets: Iterable[str], forms: Sequence[Form], tuned: Tuned, dtype: str | None
) -> Iterator[Job]:
    """Yield what is to be written for each target.

    Args:
        targets: of `TARGETS`; one named twice counts once.
        forms: of GGUF files.
        tuned: what is exported.
        dtype: of merged weights; None stores them as the base does.

    Raises:
        UnsupportedError: a target cannot hold this model.
    """
    for target in dict.fromkeys(targets):
        if target == "adapter":
            adapter = Adapter(tuned.weights, tuned.frame)
            yield Job(target, "", adapter.nbytes, adapter.write)
        elif target == "merged":
            width = None if dtype is None else getattr(torch, dtype)
            merged = Merged(tuned.weights, tuned.frame, width)
            yield Job(target, merged.format, merged.nbytes, merged.write)
        else:
            yield from (_gguf(form, tuned) for form in forms)


def _gguf(form: Form, tuned: Tuned) -> Job:
    if not form.alone:
        file = GgufFile(tuned.weights, tuned.frame, form.quant)
        return Job("gguf", form.name, file.nbytes, file.write_folder, "model.gguf")
    alone = GgufAdapter(tuned.weights, tuned.frame)

    def write(folder: Path, told: Count) -> None:
        folder.mkdir()
        alone.write(folder / FILE, told)

    base = GgufBase(tuned.settings, tuned.frame, form.quant)
    return Job("gguf", form.name, alone.nbytes, write, FILE, base)
