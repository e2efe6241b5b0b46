"""The weights of a base model as training held them, or as they are stored, a few rows at a time."""

import math
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.export.tensor_file import CODES
from strop.layers.quantized_linear import QuantizedLinear
from strop.models import compute_dtype, load
from strop.ops.dequantize import dequantize

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
    """The weights in a folder of safetensors files, rounded as they were held."""

    def __init__(
        self, folder: Path, held: torch.dtype | None, matrices: torch.dtype | None
    ) -> None:
        """Look at the files; weights are read when asked for.

        Args:
            folder: of the model.
            held: the format in which training held every weight; None, as it is stored.
            matrices: the format of wider linear weights and embeddings; None, as they are stored.
        """
        self._held, self._matrices = held, matrices
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self._files.update(dict.fromkeys(file.keys(), path))

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the files."""
        return list(self._files)

    @property
    def plain(self) -> bool:
        """Whether every tensor holds numbers, none holds codes of few bits."""
        return all(self._code(name) in _FORMATS for name in self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        with self._open(name) as file:
            return tuple(file.get_slice(name).get_shape())

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the files have a tensor."""
        if (code := self._code(name)) not in _FORMATS:
            raise UnsupportedError(
                f"weights stored as {code} cannot be exported; use a 16-bit base"
            )
        return _FORMATS[code]

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32; the file is closed again at once.

        What stays open stays mapped, and a mapped file counts as memory of the process.
        """
        with self._open(name) as file:
            part = file.get_slice(name)
            rows: Tensor = part[start:stop] if start is not None else file.get_tensor(name)
            if self._held is not None:
                rows = rows.to(self._held)
            elif self._matrices is not None and rows.ndim > 1 and rows.dtype.itemsize > 2:
                rows = rows.to(self._matrices)
            return rows.to(torch.float32, copy=True)

    def _code(self, name: str) -> str:
        with self._open(name) as file:
            return str(file.get_slice(name).get_dtype())

    def _open(self, name: str) -> Any:
        return safe_open(self._files[name], framework="pt")


class QuantizedBase:
    """The weights of a model that training held in few bits, some rows dequantised at a time."""

    def __init__(self, name: str, stored: Base | None) -> None:
        """Open the model as training did; its files stay memory-mapped.

        Args:
            name: what `load` takes.
            stored: the same model as its own files have it; None where they hold few bits.
        """
        model, _ = load(name, bits=4)
        self._stored, self._dtype = stored, model.config.dtype
        self._packed = {
            f"{module}.weight": layer.packed
            for module, layer in model.named_modules()
            if isinstance(layer, QuantizedLinear)
        }
        self._tensors = {
            key: tensor
            for key, tensor in model.state_dict().items()
            if not self._is_of_packed(key) or key.endswith(".bias")
        }
        own = (key for key in self._tensors if key not in model.all_tied_weights_keys)
        self._names = [*self._packed, *own] if stored is None else stored.names

    def _is_of_packed(self, key: str) -> bool:
        return f"{key.rpartition('.')[0]}.weight" in self._packed

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the files."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        held = self._packed.get(name)
        return tuple(self._tensors[name].shape if held is None else held.shape)

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the model's own files have a tensor, or its like."""
        dtype: torch.dtype = self._dtype if self._stored is None else self._stored.stored(name)
        return dtype

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32."""
        if (packed := self._packed.get(name)) is None:
            tensor = self._tensors[name]
            return (tensor[start:stop] if start is not None else tensor).float().cpu()
        E, D = packed.shape
        start, stop = start or 0, E if stop is None else stop
        first = start - start % (packed.group // math.gcd(packed.group, D))  # groups are whole
        return dequantize(packed.rows(first, stop))[start - first :].cpu()


DEQUANTISED, ORIGINAL = "dequantised", "original"
"""The bases of a run in few bits."""


def held_base(settings: dict[str, Any], folder: Path) -> Base:
    """Return the base weights of a run as they are held where it is loaded now.

    Args:
        settings: of the run.
        folder: of the base model.
    """
    return next(iter(bases(settings, folder).values()))


def bases(settings: dict[str, Any], folder: Path) -> dict[str, Base]:
    """Return the weights that a run's update can be added to, those it was trained on first.

    Args:
        settings: of the run.
        folder: of the base model.
    """
    stored = StoredBase(folder, None, None)
    if settings["bits"] == 4 and stored.plain:
        return {DEQUANTISED: QuantizedBase(settings["model"], stored), ORIGINAL: stored}
    if settings["bits"] == 4:
        return {DEQUANTISED: QuantizedBase(settings["model"], None)}
    if settings["bits"] == 32:
        return {"": stored}
    if (computed := compute_dtype()) == torch.float32:
        return {"": StoredBase(folder, None, torch.bfloat16)}
    return {"": StoredBase(folder, computed, None)}
