"""Memory that this process may still take: of the machine, its container, or a limit set on it."""

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from strop.core.system.memory import resource_limits
from strop.core.units import size_in_bytes

ROOT = Path("/sys/fs/cgroup")
NEVER = 1 << 60
"""Bytes from which a control group's limit means that there is none."""


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Bytes that may still be taken, and whose bound that is."""

    bytes: int
    bound: str
    strict: bool = False
    """Whoever takes more is ended, or has broken a promise; other memory may yet become free."""


def free_memory(device: torch.device | str = "cpu", budget: str | None = None) -> FreeMemory:
    """Return the least of all bounds on what this process may still take.

    On a CPU: free memory of the machine, of each control group around the process (both versions of
    Linux' cgroups, so containers too), and `ulimit -d` and `ulimit -v`. On a card: its free memory.

    Args:
        device: whose memory.
        budget: most that the process may have in all, as the setting `memory` says it.
    """
    device = torch.device(device)
    size = None if budget is None else size_in_bytes(budget)
    if device.type == "cuda":
        bounds = [FreeMemory(torch.cuda.mem_get_info(device)[0], "the card's free memory")]
        taken = torch.cuda.memory_allocated(device)
    else:
        bounds = _bounds_on_the_machine()
        taken = psutil.Process().memory_info().rss
    if size is not None:
        left = FreeMemory(max(0, size - taken), f"memory {budget}", strict=True)
        bounds.append(left)
    return min(bounds, key=lambda bound: bound.bytes)


def _bounds_on_the_machine() -> list[FreeMemory]:
    bounds = [FreeMemory(psutil.virtual_memory().available, "the machine's free memory")]
    bounds += _control_groups()
    return bounds + [FreeMemory(left, limit, True) for limit, left in resource_limits().items()]


def peak_resident() -> int:
    """Return the most bytes of main memory that this process ever had.

    Linux is asked for the peak of the address space (VmHWM): its `ru_maxrss` begins with what the
    parent had when it started this process, gigabytes of a notebook for instance.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource

    # Linux counts kilobytes, macOS bytes.
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _control_groups() -> list[FreeMemory]:
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return []
    bounds = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = ROOT / "memory" if controllers else ROOT
        limit, usage, cache = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        group = top / name.strip("/")
        for folder in (group, *group.parents):
            if top not in (folder, *folder.parents):
                break
            bound = _bytes_in(folder / limit)
            if bound is None or bound >= NEVER:
                continue
            used = (_bytes_in(folder / usage) or 0) - _statistic(folder / "memory.stat", cache)
            bounds.append(
                FreeMemory(max(0, bound - used), "its control group's memory limit", True)
            )
    return bounds


def _bytes_in(file: Path) -> int | None:
    """Return the number in a file of a control group; None where there is none, or "max"."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _statistic(file: Path, name: str) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in lines if x.split()[0] == name), 0)
