"""Properties of this machine, and faults of a training: what is here, and what went wrong."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

from strop.core import env, native
from strop.core.errors import MissingPackageError
from strop.core.files import read_json
from strop.core.native.prebuilt import WITHOUT
from strop.core.system import versions
from strop.core.system.disk import free_bytes


def examine() -> dict[str, Any]:
    """Return the properties of this machine; speeds are measured now."""
    import torch

    from strop.models.dtype import compute_dtype, default_device, gflops
    from strop.planning.fitting import fitting
    from strop.planning.machine import free_memory

    cache = env.cache_folder()
    memory = psutil.virtual_memory()
    cards = [_card(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": versions.installed(),
        "system": f"{platform.system()} {platform.release()} on {platform.machine()}",
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": {"total": memory.total, "available": memory.available},
        "disk": {"path": str(cache), "free": free_bytes(cache)},
        "gpus": [card["name"] for card in cards],
        "cards": cards,
        "fits": fitting(free_memory().bytes),
        "device": str(default_device()),
        "gflops": gflops(),
        "compute_dtype": str(compute_dtype()).removeprefix("torch."),
        "compiled_code": native.at_hand(),
        "without_compiled_code": read_json(WITHOUT),
        "compiler": shutil.which(env.CXX),
        "extras": extras(),
        "models": _models(),
    }


def diagnose(path: Path) -> dict[str, Any]:
    """Return the faults of a training: of a run, or of a trainer of TRL or transformers.

    Args:
        path: a run folder, or a folder with `trainer_state.json` in it or in its checkpoints.

    Returns:
        `findings`: kind, step, evidence, cause and cure of each, the first to show first; and how
        many `steps` of how many `planned_steps` were seen.

    Raises:
        ConfigError: there is neither.
        DataError: a file is damaged.
    """
    from strop.runs.diagnosis import diagnose
    from strop.runs.diagnosis.history import open_history

    history = open_history(path)
    return {
        "run": str(path),
        "steps": history.steps,
        "planned_steps": history.planned_steps or None,
        "findings": [asdict(finding) for finding in diagnose(history)],
    }


def _card(index: int) -> dict[str, Any]:
    import torch

    from strop.planning.fitting import fitting

    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": {"total": total, "available": free},
        "fits": fitting(free),
    }


def extras() -> list[dict[str, Any]]:
    """Return the extras of strop, whether all packages of each are here, and what installs the rest."""
    needed: dict[str, list[Requirement]] = {}
    for text in importlib.metadata.requires("strop") or ():
        requirement = Requirement(text)
        for name in _OF_EXTRA.findall(str(requirement.marker or "")):
            needed.setdefault(name, []).append(requirement)
    needed.pop("dev", None)
    return [_extra(name, requirements) for name, requirements in sorted(needed.items())]


_OF_EXTRA = re.compile(r'extra == "([\w-]+)"')


def _extra(name: str, requirements: Sequence[Requirement]) -> dict[str, Any]:
    absent = [r for r in requirements if not _is_installed(r)]
    packages = " ".join(f'"{r.name}{r.specifier}"' for r in absent or requirements)
    return {
        "name": name,
        "present": not absent,
        "absent": [r.name for r in absent],
        "command": f"pip install {packages}",
    }


def _is_installed(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


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
