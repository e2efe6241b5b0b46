"""Jobs of each target: folders to write, their sizes, and the file that a loader is given."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from strop.core.errors import UnsupportedError
from strop.core.progress import Written
from strop.exporting.gguf.adapter import FILE, GgufAdapter
from strop.exporting.gguf.base_file import GgufBase
from strop.exporting.gguf.channel_scaling import ChannelScaling
from strop.exporting.gguf.mixed_precision import DynamicGguf
from strop.exporting.gguf.quant_spec import Form
from strop.exporting.gguf.writer import GgufFile
from strop.exporting.ollama import modelfile
from strop.exporting.ollama.modelfile import Modelfile
from strop.exporting.safetensors.adapter import Adapter
from strop.exporting.safetensors.bitsandbytes import Bnb
from strop.exporting.safetensors.merged import Merged
from strop.exporting.weights.sensitivity import Sensitivity
from strop.exporting.weights.tuned import TunedWeights
from strop.models.assets import ModelAssets
from strop.models.lora import full_weights
from strop.runs.reward_model import Classifier

MODEL, BASE = "model.gguf", "base.gguf"


@dataclass(frozen=True, slots=True)
class Job:
    """One folder that is to be written."""

    target: str
    format: str
    nbytes: int
    write: Callable[[Path, Written], None]
    """Writes the folder."""
    opened: str = ""
    """The file in the folder that its loader is given; empty: the folder."""
    base: GgufBase | None = None
    """Base of an adapter, where it is a file outside the folder."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        several = self.target in ("gguf", "ollama")
        return f"{self.target}-{self.format}" if several else self.target


@dataclass(frozen=True, slots=True)
class Tuned:
    """The model to export, and what surrounds its weights."""

    settings: dict[str, Any]
    """Settings of the run."""
    weights: TunedWeights
    assets: ModelAssets
    sensitivity: Sensitivity
    """Costs of errors in the tuned model, calibrated only if a target needs them."""
    scaling: ChannelScaling
    """Scales of channels where weights are rounded in blocks."""
    classifier: Classifier | None = None
    """Of a model that rewards answers; None of one that writes."""

    @property
    def changes(self) -> dict[str, Any]:
        """Entries of config.json that are not the base's."""
        if self.classifier is None:
            return {}
        return self.classifier.config(self.assets.stated, self.assets.tokenizer.pad_token_id)


class _Contents(Protocol):
    """A file that is to be written."""

    @property
    def nbytes(self) -> int: ...

    def write(self, file: Path, written: Written, /) -> None: ...


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
        alone = target == "adapter" or (target != "bnb" and any(form.alone for form in forms))
        if alone and target != "merged" and tuned.weights.adapter_config.get(full_weights.KIND):
            raise UnsupportedError(
                f"this run trained all weights (adapter none), so there is no adapter to write for "
                f"{target}; export it with --to merged or --to gguf --quant q8_0"
            )
        if target == "adapter":
            adapter = Adapter(tuned.weights, tuned.assets)
            yield Job(target, "", adapter.nbytes, adapter.write)
        elif target == "merged":
            width = None if dtype is None else getattr(torch, dtype)
            merged = Merged(tuned.weights, tuned.assets, width, tuned.changes)
            yield Job(target, merged.format, merged.nbytes, merged.write)
        elif target == "bnb":
            bnb = Bnb(tuned.sensitivity, tuned.assets)
            yield Job(target, bnb.format, bnb.nbytes, bnb.write)
        else:
            job_of = _gguf if target == "gguf" else _ollama
            yield from (job_of(form, tuned) for form in forms)


def _gguf(form: Form, tuned: Tuned) -> Job:
    if not form.alone:
        return _job("gguf", form, {MODEL: _whole(form, tuned)}, MODEL)
    base = GgufBase(tuned.settings, tuned.assets, form.quant)
    return _job("gguf", form, {FILE: GgufAdapter(tuned.weights, tuned.assets)}, FILE, base=base)


def _ollama(form: Form, tuned: Tuned) -> Job:
    files: dict[str, _Contents] = (
        {MODEL: _whole(form, tuned)}
        if not form.alone
        else {
            BASE: GgufBase(tuned.settings, tuned.assets, form.quant).contents,
            FILE: GgufAdapter(tuned.weights, tuned.assets),
        }
    )
    ollama_file = Modelfile.of(tuned.assets, *files)
    return _job("ollama", form, files, modelfile.FILE, ollama_file=ollama_file)


def _whole(form: Form, tuned: Tuned) -> _Contents:
    if form.budget is None:
        return GgufFile(tuned.weights, tuned.assets, form.quant, scaling=tuned.scaling)
    return DynamicGguf(tuned.sensitivity, tuned.assets, form.budget)


def _job(
    target: str,
    form: Form,
    files: Mapping[str, _Contents],
    opened: str,
    *,
    base: GgufBase | None = None,
    ollama_file: Modelfile | None = None,
) -> Job:
    """Return the writing of a folder of files, and of the Modelfile that names them."""

    def write(folder: Path, written: Written) -> None:
        folder.mkdir()
        for name, contents in files.items():
            contents.write(folder / name, written)
        if ollama_file is not None:
            (folder / modelfile.FILE).write_text(ollama_file.text(), encoding="utf-8")

    nbytes = sum(contents.nbytes for contents in files.values())
    return Job(target, form.name, nbytes, write, opened, base)
