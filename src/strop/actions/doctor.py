"""Properties of this machine: versions, memory, devices, speed, and installed models."""

import os
import platform
import shutil
from typing import Any

import psutil

from strop.core import env
from strop.core.errors import MissingPackageError
from strop.core.system import versions
from strop.core.system.disk import free_bytes


def examine() -> dict[str, Any]:
    """Return the properties of this machine; speeds are measured now."""
    import torch

    from strop.models.dtype import compute_dtype, default_device, gflops

    cache = env.cache_folder()
    memory = psutil.virtual_memory()
    return {
        "versions": versions.installed(),
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": {"total": memory.total, "available": memory.available},
        "disk": {"path": str(cache), "free": free_bytes(cache)},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "device": str(default_device()),
        "gflops": gflops(),
        "compute_dtype": str(compute_dtype()).removeprefix("torch."),
        "compiler": shutil.which("g++") or shutil.which("c++") or shutil.which("clang++"),
        "models": _models(),
    }


def _models() -> list[dict[str, Any]]:
    from strop.models.packaged import PACKAGED, find_parts

    def present(name: str) -> bool:
        try:
            return bool(find_parts(name, PACKAGED[name]))
        except MissingPackageError:
            return False

    return [
        {"name": name, "present": present(name), "command": row.command}
        for name, row in PACKAGED.items()
    ]
