"""Models at hand with what each needs, quantisation of one, and runs on one merged."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent

if TYPE_CHECKING:
    from strop.models.files.listing import ListedModel
    from strop.planning.fitting import KnownModel


def quantize(
    model: str,
    out: str,
    *,
    budget: float | None = None,
    max_kl: float | None = None,
    calibrate: str | None = None,
    adapter_rank: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Quantise as `strop.quantize` does; return its report with the folder and the seconds.

    Raises:
        StropError: the model, the text, the budget or the folder cannot be used.
    """
    from strop.models.files.places import check_name
    from strop.models.quantized.arguments import checked_budget

    check_name(model)
    checked_budget(Path(out), budget, max_kl, adapter_rank)
    from strop.models.quantized import folder

    start = time.perf_counter()
    report = folder.quantize(
        model,
        out,
        budget=budget,
        max_kl=max_kl,
        calibrate=calibrate,
        adapter_rank=adapter_rank,
        progress=progress,
    )
    return {"out": out, "seconds": round(time.perf_counter() - start, 1), **report}


def models(folders: Sequence[str] = (".",)) -> dict[str, Any]:
    """Return the models at hand, those known to work, and the bytes that each needs.

    Args:
        folders: searched for model folders and GGUF files.

    Returns:
        `models`: name, source (packaged, cache, hub cache, folder, hub), path, whether it is
        `present`, the command that brings it, `obstacle`, model_type, `known_blocks`, parameters,
        bytes on the disk, license, template and memory; `free`: bytes that are free here.

    Raises:
        ConfigError: a folder is not there.
    """
    if absent := [folder for folder in folders if not Path(folder).is_dir()]:
        raise ConfigError(f"there is no folder {', '.join(absent)}")
    from strop.models.files.listing import list_models
    from strop.models.packaged import PACKAGED
    from strop.planning.fitting import known_models
    from strop.planning.machine import free_memory

    known = {model.hub: model for model in known_models().values()}
    rows = []
    for model in list_models(map(Path, folders)):
        row = PACKAGED.get(model.name)
        rows.append(_listed(model, known.pop(row.hub if row else model.name, None)))
    rows += [_absent(model) for model in known.values()]
    return {"models": rows, "free": free_memory().bytes}


def _listed(model: "ListedModel", known: "KnownModel | None") -> dict[str, Any]:
    config = model.config or (known.config if known else {})
    return {
        "name": model.name,
        "source": model.source,
        "path": None if model.path is None else str(model.path),
        "present": model.install is None and model.obstacle is None,
        "command": model.install,
        "obstacle": model.obstacle,
        **_size(config, known),
        "bytes": model.nbytes or None,
        "license": model.license or (known.license if known else None),
        "template": model.template or (known.template if known else None),
    }


def _absent(known: "KnownModel") -> dict[str, Any]:
    return {
        "name": known.hub,
        "source": "hub",
        "path": None,
        "present": False,
        "command": f"hf download {known.hub}",
        "obstacle": None,
        **_size(known.config, known),
        "bytes": None,
        "license": known.license,
        "template": known.template,
    }


def _size(config: Mapping[str, Any], known: "KnownModel | None") -> dict[str, Any]:
    """Return the kind of a model, its weights, and the bytes that each use of it needs."""
    from strop.forward.decoder.block_families import BLOCK_FAMILIES
    from strop.planning.fitting import ModelSize, inference_memory, training_memory

    kind = str(config.get("model_type", ""))
    blocks = [name.removesuffix("DecoderLayer").lower() for name in BLOCK_FAMILIES]
    facts = {
        "model_type": kind or None,
        "known_blocks": kind.removesuffix("_text") in blocks,
        "about": known is None,
    }
    if (size := ModelSize.of(config)) is None:
        return {**facts, "parameters": None, "memory": None}
    training = known.training if known else training_memory(size)
    inference = inference_memory(size)
    memory = {
        "inference_4bit": inference[4],
        "inference": inference[16],
        "qlora": training[4],
        "lora": training[16],
    }
    return {**facts, "parameters": size.parameters, "memory": memory}


def merge(
    runs: Sequence[str],
    out: str,
    *,
    weights: Sequence[float] | None = None,
    method: str = "cat",
    density: float = 0.5,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Join the adapters of several runs on one model into one; return where it is and what it is of.

    Args:
        runs: folders of finished runs.
        out: folder of the result, a run itself, which evaluates, chats and exports.
        weights: of each run; None weighs all alike, 1 together.
        method: PEFT's `combination_type`; cat adds the updates exactly.
        density: share of values that ties, dare and magnitude_prune keep.
        seed: decides which values dare drops.
        overwrite: replace what is in `out`.

    Raises:
        ConfigError: runs on different models, or numbers that do not fit.
        UnsupportedError: an adapter that does more than add to weights.
    """
    from strop.runs import merging

    start = time.perf_counter()
    equal = [1 / len(runs)] * len(runs) if weights is None else weights
    run = merging.merge(
        [Path(run) for run in runs],
        Path(out),
        merging.Recipe(tuple(equal), method, density, seed),
        overwrite=overwrite,
    )
    return {
        "run": str(run.path),
        "adapter": str(run.adapter_folder),
        **run.record["merged"],
        "seconds": round(time.perf_counter() - start, 1),
    }
