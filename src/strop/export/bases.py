"""The weights of a base model as training held them, or as they are stored, a few rows at a time."""

from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from strop.core.errors import UnsupportedError
from strop.export.tensor_file import CODES
from strop.layers.quantized_linear import QuantizedLinear
from strop.models import compute_dtype, load

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

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        with self._open(name) as file:
            return tuple(file.get_slice(name).get_shape())

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the files have a tensor."""
        with self._open(name) as file:
            code = file.get_slice(name).get_dtype()
        if code not in _FORMATS:
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

    def _open(self, name: str) -> Any:
        return safe_open(self._files[name], framework="pt")


class QuantizedBase:
    """The weights of a model that training held in few bits, each dequantised when asked for."""

    def __init__(self, name: str, stored: Base) -> None:
        """Open the model as training did; its files stay memory-mapped.

        Args:
            name: what `load` takes.
            stored: the same model as its own files have it.
        """
        model, _ = load(name, bits=4)
        self._stored = stored
        self._tensors = dict(model.state_dict())
        self._packed = {
            f"{module}.weight": layer
            for module, layer in model.named_modules()
            if isinstance(layer, QuantizedLinear)
        }

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the files."""
        return self._stored.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self._stored.shape(name)

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the model's own files have a tensor."""
        return self._stored.stored(name)

    def rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        """Return rows of a tensor in float32."""
        if (layer := self._packed.get(name)) is not None:
            device = layer.weight.device
            whole = layer.dense(torch.empty(layer.shape, dtype=torch.float32, device=device))
            return whole[start:stop].cpu()
        tensor = self._tensors[name]
        return (tensor[start:stop] if start is not None else tensor).float().cpu()


def held_base(settings: dict[str, Any], folder: Path) -> Base:
    """Return the base weights of a run as they are held where it is loaded now.

    Args:
        settings: of the run.
        folder: of the base model.
    """
    if settings["bits"] == 4:
        return QuantizedBase(settings["model"], StoredBase(folder, None, None))
    if settings["bits"] == 32:
        return StoredBase(folder, None, None)
    if (computed := compute_dtype()) == torch.float32:
        return StoredBase(folder, None, torch.bfloat16)
    return StoredBase(folder, computed, None)
