"""Safetensors files written row by row, so that no tensor need be whole in memory."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHARD_BYTES = 5_000_000_000
"""A file of weights is not longer than this, unless one tensor is."""
CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.uint8: "U8",
}
"""Names of number formats in a safetensors header."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file that is to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def shards(entries: Iterable[Entry], most: int = SHARD_BYTES) -> dict[str, list[Entry]]:
    """Return which tensors lie in which file of a model folder, in order."""
    groups: list[list[Entry]] = [[]]
    for entry in entries:
        if groups[-1] and sum(e.nbytes for e in groups[-1]) + entry.nbytes > most:
            groups.append([])
        groups[-1].append(entry)
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    count = len(groups)
    return {f"model-{i:05}-of-{count:05}.safetensors": g for i, g in enumerate(groups, 1)}


def write_shards(
    folder: Path,
    placed: Mapping[str, Sequence[Entry]],
    blocks: Callable[[str], Iterable[Tensor]],
) -> None:
    """Write the files of a model folder, and their index where there are several.

    Args:
        folder: exists.
        placed: what `shards` returned.
        blocks: gives a tensor as consecutive runs of its rows.
    """
    for name, entries in placed.items():
        write_tensors(folder / name, entries, blocks)
    if len(placed) == 1:
        return
    everything = [entry for entries in placed.values() for entry in entries]
    index = {
        "metadata": {
            "total_size": sum(entry.nbytes for entry in everything),
            "total_parameters": sum(math.prod(entry.shape) for entry in everything),
        },
        "weight_map": {e.name: file for file, entries in placed.items() for e in entries},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_tensors(
    file: Path, entries: Sequence[Entry], blocks: Callable[[str], Iterable[Tensor]]
) -> None:
    """Write one safetensors file: the length of a JSON header in 8 bytes, the header, the values.

    Source of the format: the README of safetensors. Its own writer takes whole tensors only.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        start, end = end, end + entry.nbytes
        header[entry.name] = {
            "dtype": CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values begin at a multiple of 8
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for entry in entries:
            for block in blocks(entry.name):
                stream.write(as_bytes(block.to(entry.dtype)))


def as_bytes(values: Tensor) -> Any:
    """Return a tensor's values as bytes, without copying where they are contiguous."""
    flat = values.contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""
