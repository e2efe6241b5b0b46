"""Base weights as they were in training, or as they are stored, a few rows at a time."""

import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.core.files import reading
from strop.exporting.weights.streaming import CODES
from strop.models.assets import ModelAssets
from strop.models.files.layout import Conversion, Group, Layout
from strop.models.files.opening import conversion
from strop.models.files.weight_files import StoredTensor, stored_tensors
from strop.models.precision import NARROW
from strop.models.quantized.on_load import packed_folder
from strop.models.quantized.reader import forms_of, module_key, packed
from strop.ops.dequantize import dequantize
from strop.ops.dequantize.packed import Packed

_FORMATS = {code: dtype for dtype, code in CODES.items() if dtype.is_floating_point}


class Base(Protocol):
    """Weights of a base model under their names in memory."""

    @property
    def layout(self) -> Layout:
        """Their names in the model's files."""

    @property
    def names(self) -> list[str]:
        """Every weight, in the order of the files."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape."""

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the model's own files have a weight."""

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a weight in float32; None, None is the whole of one without rows."""


class StoredBase:
    """Weights in the files of a model folder, rounded as training rounds them."""

    def __init__(
        self,
        assets: ModelAssets,
        *,
        dtype: torch.dtype | None = None,
        matrices: torch.dtype | None = None,
    ) -> None:
        """List the weights; they are read on demand.

        Args:
            assets: of the model.
            dtype: the format of every weight in training; None, as it is stored.
            matrices: the format of wider linear weights and embeddings; None, as they are stored.
        """
        self._files = Files(stored_tensors(assets.folder), dtype, matrices)
        self._conversion: Conversion | None = None
        if assets.layout is None:
            self._conversion = conversion(assets.folder)
        self.layout = assets.layout or self.converting.layout
        self._of = {name: group for group in self.layout.groups for name in group.memory}
        self._read: tuple[Group, dict[str, Tensor]] | None = None
        grouped = {name: group.memory for group in self.layout.groups for name in group.files}
        self.names = [
            *dict.fromkeys(
                memory
                for name in self._files.tensors
                for memory in grouped.get(name, (self.layout.names.get(name),))
                if memory in self.layout.shapes and not self._is_tied(memory)
            )
        ]

    @property
    def converting(self) -> Conversion:
        """Mapping of transformers, needed where tensors of the files become others."""
        assert self._conversion is not None
        return self._conversion

    @property
    def plain(self) -> bool:
        """True where every tensor holds numbers, none codes of few bits."""
        return all(tensor.code in _FORMATS for tensor in self._files.tensors.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape."""
        return self.layout.shapes[name]

    def file_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor of the files."""
        return self._files.tensors[name].shape

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the files have a weight."""
        group = self._of.get(name)
        return self._files.dtype(self.layout.files[name] if group is None else group.files[0])

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a weight in float32."""
        if (group := self._of.get(name)) is None:
            return self._files.rows(self.layout.files[name], start, stop)
        if self._read is None or self._read[0] != group:
            self._read = None  # before the next is read
            tensors = {part: self._files.rows(part, None, None) for part in group.files}
            self._read = group, self.converting.read(group, tensors)
        return self._read[1][name][start:stop]

    def _is_tied(self, name: str) -> bool:
        other = self.layout.tied.get(name)
        return other is not None and other in self.layout.shapes


class Files:
    """The tensors of a model's files, by their names there."""

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        dtype: torch.dtype | None = None,
        matrices: torch.dtype | None = None,
    ) -> None:
        """Read `tensors` on demand, rounded as `StoredBase` says."""
        self.tensors, self._dtype, self._matrices = tensors, dtype, matrices

    def dtype(self, name: str) -> torch.dtype:
        """Return the format of a tensor."""
        if (code := self.tensors[name].code) not in _FORMATS:
            raise UnsupportedError(
                f"weights stored as {code} cannot be exported; use a 16-bit base"
            )
        return _FORMATS[code]

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32; the file is closed again at once.

        What stays open stays mapped, and a mapped file counts as memory of the process.
        """
        path = self.tensors[name].path
        with reading(path), safe_open(path, framework="pt") as file:
            part = file.get_slice(name)
            rows: Tensor = part[start:stop] if start is not None else file.get_tensor(name)
            if self._dtype is not None:
                rows = rows.to(self._dtype)
            elif self._matrices is not None and rows.ndim > 1 and rows.dtype.itemsize > 2:
                rows = rows.to(self._matrices)
            return rows.to(torch.float32, copy=True)

    def whole(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return whole tensors as they are stored, views of their file."""
        tensors = {}
        for path in {self.tensors[name].path for name in names}:
            with reading(path), safe_open(path, framework="pt") as file:
                here = [name for name in names if self.tensors[name].path == path]
                tensors.update({name: file.get_tensor(name) for name in here})
        return tensors


class QuantizedBase:
    """Weights of a model in few bits, some rows dequantised at a time."""

    def __init__(self, assets: ModelAssets, computed: torch.dtype, stored: Base | None) -> None:
        """Open the files of codes, which are made if they are not there.

        Args:
            assets: of the model.
            computed: format of the products of training.
            stored: the same model as its own files have it; None where they hold few bits.
        """
        folder = assets.folder if stored is None else packed_folder(assets.folder)
        self.layout = assets.layout or conversion(assets.folder).layout
        self._stored = stored
        tensors = {**stored_tensors(assets.folder), **stored_tensors(folder)}
        self._files = Files(tensors, **_rounding(computed))
        self._forms = {self._layer(name): form for name, form in forms_of(folder).items()}
        self._parts: dict[str, dict[str, str]] = {name: {} for name in self._forms}
        for key in tensors:
            layer, _, part = module_key(key).rpartition(".")
            if (layer := self._layer(layer)) in self._parts:
                self._parts[layer][part] = key
        self._shapes: dict[str, tuple[int, ...]] = {}
        if stored is None:
            from strop.models.meta_model import shapes

            self._shapes = shapes(folder, self._forms)
        self._read: tuple[str, Packed] | None = None
        self._dtype = computed if computed in NARROW else assets.config.dtype or torch.float32

    @property
    def names(self) -> list[str]:
        """Every weight, in the order of the files."""
        return list(self._shapes) if self._stored is None else self._stored.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a weight's shape."""
        return self._shapes[name] if self._stored is None else self._stored.shape(name)

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the model's own files have a weight, or its like."""
        dtype: torch.dtype = self._dtype if self._stored is None else self._stored.stored(name)
        return dtype

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a weight in float32."""
        if name.removesuffix(".weight") not in self._forms:
            return self._files.rows(self.layout.files.get(name, name), start, stop)
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
            read = self._files.whole(parts.values())
            tensors = {part: read[key] for part, key in parts.items()}
            self._read = name, packed(self._forms[layer], (E, D), tensors)
        return self._read[1]

    def _layer(self, name: str) -> str:
        """Return a layer's name in memory."""
        weight = f"{name}.weight"
        return self.layout.names.get(weight, weight).removesuffix(".weight")


DEQUANTISED, ORIGINAL = "dequantised", "original"
"""The bases of a run in few bits."""


def loaded_base(settings: dict[str, Any], assets: ModelAssets) -> Base:
    """Return the base weights of a run as loading it gives them.

    Args:
        settings: of the run.
        assets: of the base model.
    """
    return next(iter(bases(settings, assets).values()))


def bases(settings: dict[str, Any], assets: ModelAssets) -> dict[str, Base]:
    """Return the weights that a run's update can be added to, those it was trained on first.

    Args:
        settings: of the run.
        assets: of the base model.
    """
    computed = getattr(torch, settings["dtype"])
    if settings["bits"] == 4:
        stored = StoredBase(assets)
        if stored.plain:
            return {DEQUANTISED: QuantizedBase(assets, computed, stored), ORIGINAL: stored}
        return {DEQUANTISED: QuantizedBase(assets, computed, None)}
    rounding = {} if settings["bits"] == 32 else _rounding(computed)
    return {"": StoredBase(assets, **rounding)}


def _rounding(computed: torch.dtype) -> dict[str, torch.dtype | None]:
    """Return how `load` rounds weights below 32 bits for products in a format."""
    if computed == torch.float32:
        return {"dtype": None, "matrices": torch.bfloat16}
    return {"dtype": computed, "matrices": None}
