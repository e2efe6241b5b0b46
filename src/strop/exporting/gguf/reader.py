"""Reads the weights of a GGUF file back under transformers' names and in transformers' layout."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGUFReader, get_tensor_name_map
from torch import Tensor

from strop.core.errors import DataError
from strop.core.files import reading
from strop.exporting.gguf import architectures
from strop.exporting.gguf.architectures import GGUF_ARCHITECTURES, GgufArchitecture
from strop.exporting.gguf.channel_scaling import CHANNELS_SCALED
from strop.exporting.gguf.types import decode
from strop.exporting.weights.rotary import pairs_to_halves
from strop.exporting.weights.sketches import projection, projection_of

_ROWS = 4096
"""Rows that are dequantised at once."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a GGUF file."""

    name: str
    """transformers'."""
    kind: str
    """Number format."""
    head: int
    """Rows of an attention head, where it has heads; else 0."""
    blocks: Iterator[Tensor]
    """Rows in order."""
    update: tuple[Tensor, Tensor] | None = None
    """B [O, R] and A [R, I] of what an adapter adds to it: B A."""

    def projection(self) -> Tensor:
        """Return its projection, the adapter's update added."""
        of_base = projection_of(self.blocks)
        return (
            of_base
            if self.update is None
            else of_base + self.update[0] @ projection(self.update[1])
        )


class GgufReading:
    """The weights of one GGUF file, with an adapter's over them if there is one."""

    def __init__(self, file: Path, weights: Iterable[str], adapter: Path | None = None) -> None:
        """Read the headers.

        Args:
            file: a GGUF file.
            weights: the names of the model's weights in transformers.
            adapter: a GGUF file that holds a LoRA adapter.

        Raises:
            DataError: a file is cut short, or of an architecture that is not known.
        """
        self._reader = _opened(file)
        arch = self.field("general.architecture")
        self._family = _family(arch)
        names = get_tensor_name_map(self._family.arch, int(self.field(f"{arch}.block_count")))
        self._heads = {
            ".attn_q.": int(self.field(f"{arch}.attention.head_count")),
            ".attn_k.": int(self.field(f"{arch}.attention.head_count_kv")),
        }
        self._names = {
            stored: name
            for name in weights
            if (stored := architectures.named(names, name)) is not None
        }
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._alpha = 0.0
        self._factors: dict[str, Any] = {}
        if adapter is not None:
            opened = _opened(adapter)
            self._factors = {tensor.name: tensor for tensor in opened.tensors}
            alpha = opened.get_field("adapter.lora.alpha")
            self._alpha = 0.0 if alpha is None else float(alpha.contents())

    def field(self, name: str) -> Any:
        """Return a field of the header.

        Raises:
            DataError: the file has none of that name.
        """
        field = self._reader.get_field(name)
        if field is None:
            raise DataError(f"the GGUF file has no field {name}")
        return field.contents()

    @property
    def channels_scaled(self) -> bool:
        """True where channels are scaled between weights."""
        return self._reader.get_field(CHANNELS_SCALED) is not None

    @property
    def homeless(self) -> list[str]:
        """Tensors of the adapter that change nothing, as the file has no such weight."""
        weights = (name.rpartition(".lora_")[0] for name in self._factors)
        return sorted({name for name in weights if name not in self._tensors})

    @property
    def missing(self) -> list[str]:
        """Weights of the model, by transformers' names, that the file lacks."""
        absent = [name for named, name in self._names.items() if named not in self._tensors]
        return [name for name in absent if name != "lm_head.weight"]  # tied: llama.cpp knows

    def weights(self) -> Iterator[Stored]:
        """Yield every tensor that has a name in transformers."""
        for named, tensor in self._tensors.items():
            if named in self._names:
                heads = next((n for part, n in self._heads.items() if part in named), 0)
                head = int(tensor.shape[-1]) // heads if heads else 0
                yield Stored(
                    self._names[named],
                    tensor.tensor_type.name,
                    head,
                    self._rows(tensor, head),
                    self._update(named, head),
                )

    def _update(self, named: str, head: int) -> tuple[Tensor, Tensor] | None:
        """Return B and A with alpha / rank in B, in transformers' layout."""
        parts = [self._factors.get(f"{named}.lora_{part}") for part in "ba"]
        if None in parts:
            return None
        B, A = (decode(part.data, part.tensor_type) for part in parts if part is not None)
        scale = self._alpha / len(A) if self._alpha else 1.0
        return scale * self._permuted_back(B, head), A

    def _rows(self, tensor: Any, head: int) -> Iterator[Tensor]:
        if len(tensor.shape) == 1:
            yield self._plain(tensor, torch.from_numpy(tensor.data.astype(np.float32)), head)
            return
        step = max(1, _ROWS // max(1, head)) * max(1, head)
        for start in range(0, len(tensor.data), step):
            rows = decode(tensor.data[start : start + step], tensor.tensor_type)
            yield self._plain(tensor, rows, head)

    def _plain(self, tensor: Any, rows: Tensor, head: int) -> Tensor:
        if self._family.unit_offset and tensor.name.endswith("norm.weight"):
            return rows - 1
        return self._permuted_back(rows, head)

    def _permuted_back(self, rows: Tensor, head: int) -> Tensor:
        if not (self._family.permuted and head):
            return rows
        return pairs_to_halves(rows, head)


def _opened(file: Path) -> GGUFReader:
    with reading(file, "it may be cut short; export it again"):
        return GGUFReader(file)


def _family(arch: str) -> GgufArchitecture:
    for family in GGUF_ARCHITECTURES.values():
        if MODEL_ARCH_NAMES[family.arch] == arch:
            return family
    raise DataError(f"the GGUF file is of the architecture {arch!r}, which is not known here")
