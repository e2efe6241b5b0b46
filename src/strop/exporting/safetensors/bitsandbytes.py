"""Writes a run as a folder of bitsandbytes' 4-bit weights, some layers left in 16 bits."""

import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strop.core.errors import MissingPackageError, UnsupportedError
from strop.core.files import read_json, write_json
from strop.core.progress import Written
from strop.exporting.weights.sensitivity import Sensitivity
from strop.exporting.weights.streaming import Entry, shards, write_shards
from strop.models.assets import ModelAssets
from strop.ops.dequantize.packed import Packed
from strop.quantization.allocation import Knapsack, Option
from strop.quantization.choices import NF4_FORMAT
from strop.quantization.formats import SCALE_GROUP

BUDGET = 1.125
"""Bytes of the folder over those with each linear layer in NF4. SmolLM2-135M is 0.1 nats from the
trained model with it; where a model's vocabulary is most of it, much is left in 16 bits for little."""
GROUP = NF4_FORMAT.group
ROWS = 32
"""bitsandbytes repacks a weight for CPUs with AVX512-BF16 in whole blocks of so many rows."""
_NOTE = "quant_state.bitsandbytes__nf4"
_NOTE_BYTES = 320
"""bitsandbytes' quant_state as JSON, padded: sizes must be known before writing."""
_FUSED = {"q_proj": "qkv_proj", "gate_proj": "gate_up_proj"}
"""vLLM's names of layers that it computes in one, by their first."""


class Bnb:
    """A folder of NF4 weights, their scales in 8 bits, that transformers and vLLM open."""

    format = "nf4"

    def __init__(
        self, sensitivity: Sensitivity, assets: ModelAssets, budget: float = BUDGET
    ) -> None:
        """Compute the largest size of the folder.

        Args:
            sensitivity: calibrated costs of errors in the tuned model.
            assets: what surrounds the weights.
            budget: bytes of the weights over those with each linear layer in NF4; what is over
                leaves in 16 bits those layers that suffer most.

        Raises:
            MissingPackageError: bitsandbytes is not installed.
            UnsupportedError: no layer fits bitsandbytes.
        """
        if importlib.util.find_spec("bitsandbytes") is None:
            raise MissingPackageError(
                'what --to bnb writes is opened by bitsandbytes; run: pip install "strop[bnb]"'
            )
        self.sensitivity, self.assets = sensitivity, assets
        self._dtype = torch.float16 if assets.config.dtype == torch.float16 else torch.bfloat16
        shapes = {name: sensitivity.weights.shape(name) for name in sensitivity.weights.names}
        # bitsandbytes' CPU kernels read rows of whole groups only, and whole blocks of rows
        linear = [
            name
            for name, shape in shapes.items()
            if ".layers." in name
            and len(shape) == 2
            and shape[0] % ROWS == 0
            and shape[1] % GROUP == 0
        ]
        self._linear = set(linear)
        if not linear:
            raise UnsupportedError(
                f"no layer of this {assets.config.model_type} model has inputs in whole groups of "
                f"{GROUP} and outputs in whole blocks of {ROWS}, as bitsandbytes needs them; "
                "export --to merged instead"
            )
        plain = sum(NF4_FORMAT.stored_bytes(self._shape(name)) for name in linear)
        rest = sum(e.nbytes for name in sensitivity.weights.names for e in self._whole(name))
        in_16_bits = sum(2 * math.prod(self._shape(name)) for name in linear)
        notes = len(linear) * (_NOTE_BYTES + 4 * (16 + 256))
        self._more = int((budget - 1) * (rest - in_16_bits + plain))
        self.nbytes = rest - in_16_bits + plain + self._more + notes

    def write(self, folder: Path, written: Written) -> None:
        """Choose what stays in 16 bits, and write everything into `folder`, which is made.

        Args:
            folder: does not exist yet.
            written: called with the bytes of each tensor that is written.
        """
        folder.mkdir()
        left = self._left()
        packed = self._linear - {f"{name}.weight" for group in left for name in group}
        entries = [
            entry
            for name in self.sensitivity.weights.names
            for entry in (self._packed(name) if name in packed else self._whole(name))
        ]
        sizes = {entry.name: entry.nbytes for entry in entries}
        rounded = self.sensitivity.rounded({n.removesuffix(".weight"): NF4_FORMAT for n in packed})
        parts = _Parts(self.sensitivity, rounded, self._dtype)

        def blocks(name: str) -> Iterator[Tensor]:
            yield from parts.of(name)
            written(sizes[name])

        write_shards(folder, shards(entries), blocks)
        self.assets.save(folder, self._dtype)
        file = folder / "config.json"
        config = read_json(file)
        write_json(file, config | {"quantization_config": self._config(left)})

    def _left(self) -> list[list[str]]:
        """Return the groups of layers that stay in 16 bits."""
        options, left = {}, []
        groups = {group[0]: group for group in self.sensitivity.groups()}
        for first, group in groups.items():
            if not all(f"{name}.weight" in self._linear for name in group):
                left.append(group)
                continue
            shapes = [self._shape(f"{name}.weight") for name in group]
            harm = sum(self.sensitivity.rounding_kl(name, NF4_FORMAT) for name in group)
            options[first] = [
                Option("nf4", sum(NF4_FORMAT.stored_bytes(s) for s in shapes), harm),
                Option("16", sum(2 * math.prod(s) for s in shapes), 0.0),
            ]
        plain = sum(of[0].bytes for of in options.values())
        chosen = Knapsack(options).within(plain + self._more)
        return left + [groups[first] for first, of in chosen.items() if of.format == "16"]

    def _shape(self, name: str) -> tuple[int, int]:
        E, D = self.sensitivity.weights.shape(name)
        return E, D

    def _whole(self, name: str) -> list[Entry]:
        return [Entry(name, self.sensitivity.weights.shape(name), self._dtype)]

    def _packed(self, name: str) -> list[Entry]:
        count = math.prod(self._shape(name))
        scales = -(-count // GROUP)
        factors = -(-scales // SCALE_GROUP)
        return [
            Entry(name, (-(-count // 2), 1), torch.uint8),
            Entry(f"{name}.absmax", (scales,), torch.uint8),
            Entry(f"{name}.quant_map", (16,), torch.float32),
            Entry(f"{name}.nested_absmax", (factors,), torch.float32),
            Entry(f"{name}.nested_quant_map", (256,), torch.float32),
            Entry(f"{name}.{_NOTE}", (_NOTE_BYTES,), torch.uint8),
        ]

    def _config(self, groups: list[list[str]]) -> dict[str, Any]:
        skipped = ["lm_head"]
        for group in groups:
            skipped += group
            parent, _, first = group[0].rpartition(".")
            if len(group) > 1 and first in _FUSED:
                skipped.append(f"{parent}.{_FUSED[first]}")
        return {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "load_in_8bit": False,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": str(self._dtype).removeprefix("torch."),
            "bnb_4bit_quant_storage": "uint8",
            "llm_int8_skip_modules": skipped,
        }


class _Parts:
    """Tensors of the file; those of a packed weight are made together."""

    def __init__(
        self, sensitivity: Sensitivity, rounded: dict[str, Packed], dtype: torch.dtype
    ) -> None:
        self._weights, self._packed, self._dtype = sensitivity.weights, rounded, dtype
        self._ready: dict[str, Tensor] = {}

    def of(self, name: str) -> Iterator[Tensor]:
        """Yield a tensor of the file."""
        if packed := self._packed.pop(name.removesuffix(".weight"), None):
            self._ready = as_bitsandbytes(name, packed, self._dtype)
        if name in self._ready:
            yield self._ready.pop(name)
        else:
            yield from self._weights.blocks(name)


def as_bitsandbytes(name: str, packed: Packed, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the tensors that bitsandbytes reads a weight from, by their names in the file.

    Its layout says a scale as ours does, scale = table[code] * factor + offset, and takes the table
    from the file: ours, so that scales are exact.

    Args:
        name: of the weight.
        packed: its codes are NF4's.
        dtype: the weight is read as.
    """
    assert packed.scale_table is not None
    assert packed.factors is not None
    note = {
        "quant_type": "nf4",
        "blocksize": packed.group,
        "dtype": str(dtype).removeprefix("torch."),
        "shape": list(packed.shape),
        "nested_blocksize": packed.scale_group,
        "nested_dtype": "float32",
        "nested_offset": packed.offset,
    }
    padded = json.dumps(note).ljust(_NOTE_BYTES).encode()
    return {
        name: packed.codes[:, None],
        f"{name}.absmax": packed.scale_codes,
        f"{name}.quant_map": packed.table,
        f"{name}.nested_absmax": packed.factors,
        f"{name}.nested_quant_map": packed.scale_table,
        f"{name}.{_NOTE}": torch.tensor(list(padded), dtype=torch.uint8),
    }
