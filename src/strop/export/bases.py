"""The weights of a base model as training held them, or as they are stored, a few rows at a time."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.export.tensor_file import CODES
from strop.models import compute_dtype
from strop.models.frame import Frame
from strop.models.holding import NARROW
from strop.models.packed_weights import forms_of, own_name, packed
from strop.models.packing import packed_folder
from strop.models.weight_files import StoredTensor, stored_tensors
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed

_FORMATS = {code: dtype for dtype, code in CODES.items() if dtype.is_floating_point}


class Base(Protocol):
    """Where the weights of a base model are read."""

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the files."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the model's own files have a tensor."""

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32; None, None is the whole of one without rows."""


class StoredBase:
    """The weights in folders of safetensors files, rounded as they were held."""

    def __init__(
        self, *folders: Path, held: torch.dtype | None = None, matrices: torch.dtype | None = None
    ) -> None:
        """Look at the files; weights are read when asked for.

        Args:
            *folders: of the model; the first that has a tensor is taken.
            held: the format in which training held every weight; None, as it is stored.
            matrices: the format of wider linear weights and embeddings; None, as they are stored.
        """
        self._held, self._matrices = held, matrices
        self._places: dict[str, StoredTensor] = {}
        for folder in folders:
            for name, tensor in stored_tensors(folder).items():
                self._places.setdefault(name, tensor)

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the files."""
        return list(self._places)

    @property
    def plain(self) -> bool:
        """Whether every tensor holds numbers, none holds codes of few bits."""
        return all(place.code in _FORMATS for place in self._places.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._places[name].shape

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the files have a tensor."""
        if (code := self._places[name].code) not in _FORMATS:
            raise UnsupportedError(
                f"weights stored as {code} cannot be exported; use a 16-bit base"
            )
        return _FORMATS[code]

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32; the file is closed again at once.

        What stays open stays mapped, and a mapped file counts as memory of the process.
        """
        with safe_open(self._places[name].path, framework="pt") as file:
            part = file.get_slice(name)
            rows: Tensor = part[start:stop] if start is not None else file.get_tensor(name)
            if self._held is not None:
                rows = rows.to(self._held)
            elif self._matrices is not None and rows.ndim > 1 and rows.dtype.itemsize > 2:
                rows = rows.to(self._matrices)
            return rows.to(torch.float32, copy=True)

    def tensors(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return whole tensors as they are stored, views of their file."""
        found = {}
        for path in {self._places[name].path for name in names}:
            with safe_open(path, framework="pt") as file:
                here = [name for name in names if self._places[name].path == path]
                found.update({name: file.get_tensor(name) for name in here})
        return found


class QuantizedBase:
    """The weights of a model that training held in few bits, some rows dequantised at a time."""

    def __init__(self, frame: Frame, stored: Base | None) -> None:
        """Look at the files of codes, which are made if they are not there.

        Args:
            frame: of the model.
            stored: the same model as its own files have it; None where they hold few bits.
        """
        folder = frame.folder if stored is None else packed_folder(frame.folder)
        self._stored, self._forms = stored, forms_of(folder)
        self._files = _held(folder, frame.folder)
        self._parts: dict[str, dict[str, str]] = {name: {} for name in self._forms}
        for key in self._files.names:
            layer, _, part = own_name(key).rpartition(".")
            if layer in self._parts:
                self._parts[layer][part] = key
        self._shapes: dict[str, tuple[int, ...]] = {}
        if stored is None:
            from strop.models.outline import shapes

            self._shapes = shapes(folder, self._forms)
        computed = compute_dtype()
        self._read: tuple[str, Packed] | None = None
        self._dtype = computed if computed in NARROW else frame.config.dtype or torch.float32

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the files."""
        return list(self._shapes) if self._stored is None else self._stored.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._shapes[name] if self._stored is None else self._stored.shape(name)

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the model's own files have a tensor, or its like."""
        dtype: torch.dtype = self._dtype if self._stored is None else self._stored.stored(name)
        return dtype

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32."""
        if name.removesuffix(".weight") not in self._forms:
            return self._files.rows(name, start, stop)
        whole = self._packed(name)
        E, D = whole.shape
        start, stop = start or 0, E if stop is None else stop
        first = start - start % (whole.group // math.gcd(whole.group, D))  # groups are whole
        return dequantize(whole.rows(first, stop))[start - first :]

    def _packed(self, name: str) -> Packed:
        """Return a weight in few bits, kept for the rows that are asked of it next."""
        if self._read is None or self._read[0] != name:
            layer, (E, D) = name.removesuffix(".weight"), self.shape(name)
            parts = self._parts[layer]
            read = self._files.tensors(parts.values())
            tensors = {part: read[key] for part, key in parts.items()}
            self._read = name, packed(self._forms[layer], (E, D), tensors)
        return self._read[1]


DEQUANTISED, ORIGINAL = "dequantised", "original"
"""The bases of a run in few bits."""


def held_base(settings: dict[str, Any], frame: Frame) -> Base:
    """Return the base weights of a run as they are held where it is loaded now.

    Args:
        settings: of the run.
        frame: of the base model.
    """
    return next(iter(bases(settings, frame).values()))


def bases(settings: dict[str, Any], frame: Frame) -> dict[str, Base]:
    """Return the weights that a run's update can be added to, those it was trained on first.

    Args:
        settings: of the run.
        frame: of the base model.
    """
    stored = StoredBase(frame.folder)
    if settings["bits"] == 4 and stored.plain:
        return {DEQUANTISED: QuantizedBase(frame, stored), ORIGINAL: stored}
    if settings["bits"] == 4:
        return {DEQUANTISED: QuantizedBase(frame, None)}
    return {"": stored if settings["bits"] == 32 else _held(frame.folder)}


def _held(*folders: Path) -> StoredBase:
    """Return weights as `load` holds them below 32 bits."""
    if (computed := compute_dtype()) == torch.float32:
        return StoredBase(*folders, matrices=torch.bfloat16)
    return StoredBase(*folders, held=computed)
