"""Budget of the kernels on a card."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strop.testing.gpu.binaries import SHARED_MEMORY

NO_HALF_PRODUCTS = {"sm_75": ("bf16",)}
"""Tensor cores of Turing multiply float16, not bfloat16."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Resources one kernel may need; nothing may ever spill."""

    registers: int
    """Of a thread, on NVIDIA's cards."""
    amd_registers: int
    """Of a thread, on AMD's."""
    wide: float = 0.9
    """Share of the bytes a thread loads that must come 16 at a time where rows are aligned."""


def read(path: Path) -> dict[str, Budget]:
    """Read the budgets by kernel, as `rms_norm._forward_kernel`."""
    return {name: Budget(**row) for name, row in tomllib.loads(path.read_text("utf-8")).items()}


def faults(kernels: Iterable[Mapping[str, Any]], budgets: Mapping[str, Budget]) -> list[str]:
    """Return a sentence for each need of a kernel that goes beyond its budget.

    Args:
        kernels: lines that `strop.testing.gpu.launching` prints.
        budgets: by kernel; a kernel without one is a fault.
    """
    faults = []
    for kernel in kernels:
        budget = budgets.get(kernel["kernel"])
        if budget is None:
            faults.append(f"{kernel['kernel']} has no budget")
            continue
        where = f"{kernel['kernel']} on {kernel['card']} for {kernel['launch']}"
        faults += [f"{where}: {fault}" for fault in _faults(kernel, budget)]
    return faults


def wide_share(loads: Mapping[str, int]) -> float:
    """Return which share of the bytes a thread loads comes 16 or more at a time."""
    total = sum(int(width) * count for width, count in loads.items())
    wide = sum(int(width) * count for width, count in loads.items() if int(width) >= 16)
    return wide / total if total else 1.0


def _faults(kernel: Mapping[str, Any], budget: Budget) -> list[str]:
    nvidia = kernel["card"].startswith("sm_")
    faults = []
    if kernel["spilled"]:
        faults.append(f"spills {kernel['spilled']} bytes of a thread")
    registers = budget.registers if nvidia else budget.amd_registers
    if kernel["registers"] > registers:
        faults.append(f"takes {kernel['registers']} registers, its budget is {registers}")
    if kernel["shared"] > SHARED_MEMORY[kernel["card"]]:
        faults.append(f"takes {kernel['shared']} bytes of shared memory, more than the card has")
    share = wide_share(kernel["loads"])
    if kernel["aligned"] and share < budget.wide:
        faults.append(f"loads {share:.0%} of its bytes 16 at a time, not {budget.wide:.0%}")
    halves = set(kernel["products"]) - set(NO_HALF_PRODUCTS.get(kernel["card"], ()))
    if halves and not kernel["tensor_core_instructions"]:
        faults.append("multiplies matrices without tensor cores")
    return faults
