"""Weights of a tuned model, base and adapter joined, read a few rows at a time."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from strop.core.errors import DataError, UnsupportedError
from strop.core.files import read_json, reading
from strop.exporting.weights.base_weights import Base

BLOCK_BYTES = 2_000_000
"""Bytes of a tensor in float32 that are in memory at once."""
_AGAIN = "put it back from a copy, or train again"
_PART = re.compile(
    r"(.+)\.(lora_A|lora_B|lora_magnitude_vector|lora_embedding_A|lora_embedding_B)(\.weight)?"
)
PREFIX = "base_model.model."
"""PEFT's, before the name of every module in an adapter file."""


@dataclass(frozen=True, slots=True)
class Update:
    """Update of one weight [O, I]: scale · B A, and DoRA's magnitude per output."""

    A: Tensor
    """[R, I]"""
    B: Tensor
    """[O, R]"""
    scale: float
    magnitude: Tensor | None = None
    """[O], the norms that the rows of the joined weight get."""
    transposed: bool = False
    """The base holds its weight as [I, O]."""

    def joined(self, base: Tensor, start: int) -> Tensor:
        """Return rows `start` and following of the joined weight; `base` holds those of the base.

        Args:
            base: float32, rows of the base's weight as it is stored.
            start: index of the first of them.
        """
        part = slice(start, start + len(base))
        if self.transposed:
            return base + self.scale * (self.A.T[part] @ self.B.T)
        both = base + self.scale * (self.B[part] @ self.A)
        if self.magnitude is None:
            return both
        return both * (self.magnitude[part] / torch.linalg.vector_norm(both, dim=1))[:, None]


@dataclass(frozen=True, slots=True)
class ExpertsUpdate:
    """Update of the weights [E, O, I] of stacked experts: scale · B A each."""

    A: Tensor
    """[E, R, I]"""
    B: Tensor
    """[E, O, R]"""
    scale: float
    transposed: bool
    """The base holds its weights as [E, I, O]."""

    def joined(self, base: Tensor, start: int) -> Tensor:
        """Return experts `start` and following, joined.

        Args:
            base: float32, [n, O, I] as the base stores them.
            start: index of the first of them.
        """
        part = slice(start, start + len(base))
        delta = self.scale * (self.B[part] @ self.A[part])
        return base + (delta.mT if self.transposed else delta)


class BaseWeights:
    """The weights of a base model, read a few rows at a time, under their names in memory."""

    def __init__(self, base: Base) -> None:
        """Read weights of `base` on demand."""
        self.base = base

    @property
    def names(self) -> list[str]:
        """Every tensor, in the order of the base's files."""
        return self.base.names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return self.base.shape(name)

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which the base's files have a tensor."""
        return self.base.stored(name)

    def update(self, name: str) -> Update | ExpertsUpdate | None:
        """Return what an adapter adds to a tensor, if it does."""
        return None

    def blocks(self, name: str, unit: int = 1) -> Iterator[Tensor]:
        """Yield a tensor as runs of rows in float32.

        Args:
            name: one of `names`.
            unit: runs are whole multiples of so many rows.
        """
        shape = self.shape(name)
        if not shape:
            yield self._rows(name, None, None)
            return
        per_row = 4 * max(1, math.prod(shape[1:]))
        step = max(1, BLOCK_BYTES // (per_row * unit)) * unit
        for start in range(0, shape[0], step):
            yield self._rows(name, start, min(start + step, shape[0]))

    def _rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        return self.base.rows(name, start, stop)


@torch.no_grad()
def pour(weights: BaseWeights, model: Any, dtype: torch.dtype | None) -> None:
    """Overwrite the weights of a model, a few rows at a time.

    Args:
        weights: what the model does not name is left out.
        model: has plain weights; one that is tied has several names for them.
        dtype: what they are rounded to on the way; None rounds each as the base stores it.
    """
    state = model.state_dict()
    for name in weights.names:
        if name not in state:
            continue
        start, format = 0, dtype or weights.stored(name)
        for block in weights.blocks(name):
            part = state[name][start : start + len(block)] if block.ndim else state[name]
            part.copy_(block.to(format))
            start += len(part) if block.ndim else 0


class TunedWeights(BaseWeights):
    """Weights of a model with its adapter merged in, under their names in memory."""

    def __init__(self, base: Base, adapter: Path) -> None:
        """Read the adapter; base weights are read on demand.

        Args:
            base: the weights it was trained on.
            adapter: a folder as PEFT writes it.

        Raises:
            UnsupportedError: the adapter holds a kind of tensor that cannot be merged.
            DataError: the adapter belongs to another model, or a file of it is missing.
        """
        super().__init__(base)
        self.adapter = adapter
        self.adapter_config = read_json(adapter / "adapter_config.json", hint=_AGAIN)
        modules, replaced = _read_adapter(adapter, self.adapter_config)
        of_tied = base.layout.tied
        self.replaced = {n: t for n, t in replaced.items() if of_tied.get(n) not in replaced}
        self.updates = dict(updates(modules, self.adapter_config, base))
        changed = {*self.updates, *self.replaced}
        tied = {*base.layout.tied, *base.layout.tied.values()} & set(self.updates)
        if absent := sorted((changed - set(self.names)) | tied):
            raise DataError(
                f"the adapter in {adapter} changes {absent[0]}, {_lack(absent[0], base)} "
                f"({len(absent)} of {len(changed)} such)"
            )

    def stored(self, name: str) -> torch.dtype:
        """Return the format in which a tensor was trained, or else that of the base's files."""
        if (replaced := self.replaced.get(name)) is not None:
            return replaced.dtype
        return super().stored(name)

    def update(self, name: str) -> Update | ExpertsUpdate | None:
        """Return what the adapter adds to a tensor, if it does."""
        return self.updates.get(name)

    def _rows(self, name: str, start: int | None, stop: int | None) -> Tensor:
        if (replaced := self.replaced.get(name)) is not None:
            return replaced[start:stop].float()
        base = super()._rows(name, start, stop)
        update = self.updates.get(name)
        return base if update is None else update.joined(base, start or 0)


def _lack(name: str, base: Base) -> str:
    """Return why a base has no weight of its own of this name."""
    tied = base.layout.tied
    other = tied.get(name) or next((one for one, source in tied.items() if source == name), None)
    if other is not None:
        return (
            f"which is tied to {other}: a change of one alone cannot be merged. Take it out of "
            "target_modules"
        )
    return "which the base model has not; it belongs to another model"


def _read_adapter(
    folder: Path, config: dict[str, Any]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the parts of an adapter by module, and the weights that it replaces."""
    if config.get("peft_type") != "LORA":
        raise UnsupportedError(
            f"the adapter in {folder} is of the kind {config.get('peft_type')}; only LoRA and its "
            "variants DoRA and rsLoRA can be merged"
        )
    modules: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    odd: list[str] = []
    path = folder / "adapter_model.safetensors"
    with reading(path, _AGAIN), safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - it is no dict
            name = key.removeprefix(PREFIX)
            match = _PART.fullmatch(name)
            if match:
                modules.setdefault(match[1], {})[match[2]] = file.get_tensor(key).float()
            elif "lora_" in name or "token_adapter" in name:
                odd.append(name)
            else:
                replaced[name] = file.get_tensor(key)
    tensors = [replaced, *modules.values()]
    if not all(tensor.isfinite().all() for part in tensors for tensor in part.values()):
        raise DataError(f"{path} holds values that are NaN or infinite; {_AGAIN}")
    if odd:
        raise UnsupportedError(
            f"the adapter in {folder} holds {odd[0]} ({len(odd)} such tensors), which cannot be "
            "merged; export it with --to adapter only"
        )
    return modules, replaced


def updates(
    modules: dict[str, dict[str, Tensor]], config: dict[str, Any], base: Base
) -> Iterator[tuple[str, Update | ExpertsUpdate]]:
    """Yield what an adapter adds to each weight, by the weight's name in memory.

    PEFT wraps a parameter that is no layer's weight: a module with several such parameters has one
    wrapper around another, the first parameter's innermost, and each file says only how deep.
    """
    targets = config.get("target_parameters") or []
    wrapped: dict[str, list[str]] = {}
    for name in base.layout.shapes:
        if any(name == target or name.endswith(f".{target}") for target in targets):
            wrapped.setdefault(name.rpartition(".")[0], []).append(name)
    for module, parts in modules.items():
        plain = module.replace(".base_layer", "")
        depth = module.count(".base_layer")
        order = wrapped.get(plain, [])[::-1]
        name = order[depth] if depth < len(order) else f"{plain}.weight"
        shape = base.layout.shapes.get(name, ())
        if embedding := "lora_embedding_A" in parts:
            A, B = parts["lora_embedding_A"], parts["lora_embedding_B"]
        else:
            A, B = parts["lora_A"], parts["lora_B"]
        if len(shape) == 3:
            E, rank = shape[0], len(A) // shape[0]
            stacked = A.reshape(E, rank, -1), B.reshape(len(B), rank, E).permute(2, 0, 1)
            scale = scale_of(config, name, rank)
            yield name, ExpertsUpdate(*stacked, scale, name in base.layout.transposed)
            continue
        turned = embedding or bool(config.get("fan_in_fan_out"))
        if turned and "lora_magnitude_vector" in parts:
            raise UnsupportedError(
                f"the adapter changes {name} by DoRA, and the base stores it transposed; that "
                "cannot be merged"
            )
        matched = name if order else module
        yield (
            name,
            Update(
                A=A,
                B=B,
                scale=scale_of(config, matched, len(A)),
                magnitude=parts.get("lora_magnitude_vector"),
                transposed=turned,
            ),
        )


def scale_of(config: dict[str, Any], module: str, rank: int) -> float:
    """Return what B A is multiplied by: alpha / rank, or alpha / sqrt(rank) in rsLoRA."""
    patterns = config.get("alpha_pattern") or {}
    matching = (a for key, a in patterns.items() if re.match(rf"(.*\.)?({key})$", module))
    alpha = next(matching, config["lora_alpha"])
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)
