"""What is written for each target: which folders, of what size, and by whom they are opened."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from strop.export import modelfile
from strop.export.adapter import Adapter
from strop.export.forms import Form
from strop.export.gguf_adapter import FILE, GgufAdapter
from strop.export.gguf_base import GgufBase
from strop.export.gguf_file import GgufFile
from strop.export.merged import Merged
from strop.export.modelfile import Modelfile
from strop.export.tuned import TunedWeights
from strop.models.frame import Frame

MODEL, BASE = "model.gguf", "base.gguf"
TARGETS = ("adapter", "merged", "gguf", "ollama")
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
        several = self.target in ("gguf", "ollama")
        return f"{self.target}-{self.format}" if several else self.target


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
            made = _gguf if target == "gguf" else _ollama
            yield from (made(form, tuned) for form in forms)


def _gguf(form: Form, tuned: Tuned) -> Job:
    if not form.alone:
        file = GgufFile(tuned.weights, tuned.frame, form.quant)
        return Job("gguf", form.name, file.nbytes, file.write_folder, MODEL)
    alone = GgufAdapter(tuned.weights, tuned.frame)

    def write(folder: Path, told: Count) -> None:
        folder.mkdir()
        alone.write(folder / FILE, told)

    base = GgufBase(tuned.settings, tuned.frame, form.quant)
    return Job("gguf", form.name, alone.nbytes, write, FILE, base)


def _ollama(form: Form, tuned: Tuned) -> Job:
    files: dict[str, GgufFile | GgufAdapter] = {}
    if form.alone:
        files[BASE] = GgufBase(tuned.settings, tuned.frame, form.quant).contents
        files[FILE] = GgufAdapter(tuned.weights, tuned.frame)
    else:
        files[MODEL] = GgufFile(tuned.weights, tuned.frame, form.quant)
    text = Modelfile.of(tuned.frame, *files).text()

    def write(folder: Path, told: Count) -> None:
        folder.mkdir()
        for name, contents in files.items():
            contents.write(folder / name, told)
        (folder / modelfile.FILE).write_text(text, encoding="utf-8")

    nbytes = sum(contents.nbytes for contents in files.values())
    return Job("ollama", form.name, nbytes, write, modelfile.FILE)
