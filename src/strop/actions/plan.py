"""The plan of a training, without the training: settings, memory, time, alternatives."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.core import env
from strop.core.errors import ConfigError
from strop.core.progress import Progress, silent
from strop.core.units import size_in_bytes, time_in_seconds
from strop.data.reading.blend import check_files, lasting
from strop.models.files.places import check_name
from strop.planning.settings import Settings, without_auto

if TYPE_CHECKING:
    import torch

    from strop.planning.forecast.run_plan import Place, RunPlan


def plan(
    explicit: Mapping[str, Any], *, device: str = "cpu", progress: Progress = silent
) -> dict[str, Any]:
    """Return what `strop train` with these settings would do and take; no weights are read.

    Args:
        explicit: fields of `Settings` that are set.
        device: where it would run: cpu, cpu:8GB, cuda:24GB, cuda:a100.
        progress: called for each model that is looked at.

    Raises:
        StropError: the settings, the data or the model cannot be used, or no plan meets the limits.
    """
    explicit = without_auto(explicit)
    settings = Settings.read(explicit)
    if settings.data is None:
        raise ConfigError("data is missing; a plan needs the file that is to be trained on")
    explicit["data"] = lasting(settings.data)
    check_files(settings.data)
    check_name(settings.model)
    from strop.core.quiet import quiet
    from strop.planning.forecast.devices import device_of

    env.keep_few_products()  # as the run that is planned will
    with quiet():
        return _planned(settings, explicit, device_of(device), progress)


def _planned(
    settings: Settings, explicit: Mapping[str, Any], device: Any, progress: Progress
) -> dict[str, Any]:
    from strop.data.reading.columns import columns_of
    from strop.models.files.opening import read_config
    from strop.models.loading import load_tokenizer, resolve
    from strop.planning.forecast import run_plan
    from strop.runs.run_data import read_and_split
    from strop.training.dataset import length_limit
    from strop.training.methods import METHODS, with_method

    folder = resolve(settings.model)
    split = read_and_split(settings.data, columns_of(settings.plain()), settings)
    settings = with_method(settings, explicit, split)
    limit = length_limit(settings, read_config(folder))
    tokenizer = load_tokenizer(settings.model)
    method = METHODS[settings.method]
    data = (method.outline or method.encode)(split, tokenizer, settings, limit)
    del tokenizer
    rows = data.rows
    progress("models", 0, 1)
    model, place = _outlined(str(folder), settings, device)
    plan = run_plan.plan_run(model, rows, data.facts, settings, explicit, place)
    ways = [dataclasses.asdict(x) for x in run_plan.alternatives(model, rows, plan, place)]
    models = [_row(settings.model, model, plan)]
    if plan.forecast is not None:
        models += [_scaled(name, model, plan, place) for name in _at_hand(settings.model)]
    progress("models", 1, 1)
    return {
        "model": settings.model,
        "device": device.name or "this machine",
        "data": {
            k: data.facts[k] for k in ("rows", "held_out_rows", "tokens", "supervised_tokens")
        },
        "settings": plan.settings.plain(),
        "choices": [dataclasses.asdict(choice) for choice in plan.choices],
        "step": plan.step and dataclasses.asdict(plan.step),
        "forecast": plan.forecast and dataclasses.asdict(plan.forecast),
        "alternatives": ways,
        "models": models,
        "suits": _best(models, settings),
    }


def _outlined(folder: str, settings: Settings, device: Any) -> "tuple[Any, Place]":
    """Return the model without weights, and the machine with what this process has of its memory."""
    import psutil
    import torch

    from strop.models.dtype import compute_dtype
    from strop.models.files.opening import read_config
    from strop.models.meta_model import outline
    from strop.models.precision import described
    from strop.planning.forecast.devices import CONTEXT
    from strop.planning.forecast.run_plan import Place
    from strop.planning.machine import FreeMemory, free_memory
    from strop.planning.plan import MemoryNow

    given = None if settings.dtype == "auto" else getattr(torch, settings.dtype)
    usual = (
        compute_dtype(read_config(Path(folder)), settings.bits, "cpu")
        if device.here
        else torch.bfloat16
    )
    dtype = torch.float32 if settings.bits == 32 else given or usual
    model = outline(folder, bits=settings.bits, dtype=dtype, rank=0)
    weights = described(model)["bytes"] + _teacher_bytes(settings, dtype)
    if device.kind == "cuda":
        budget = size_in_bytes(settings.memory or "") or device.memory
        size, bound = min((device.memory, device.name), (budget, f"memory {settings.memory}"))
        free = FreeMemory(max(0, size - CONTEXT), bound, strict=True)
        return model, Place(device, free, MemoryNow(CONTEXT, weights, CONTEXT, "cuda"))
    process = psutil.Process().memory_info().rss
    free = free_memory("cpu", settings.memory)
    if device.memory is not None:
        left = FreeMemory(max(0, device.memory - process), device.name, strict=True)
        free = min(free, left, key=lambda bound: bound.bytes)
    loading = process + weights + _rounded_bytes(Path(folder), settings, dtype)
    return model, Place(device, free, MemoryNow(process, weights, loading))


def _rounded_bytes(folder: Path, settings: Settings, dtype: "torch.dtype") -> int:
    """Return the bytes of files that are in memory while their weights are rounded to 16 bits."""
    import torch

    from strop.models.files.weight_files import stored_tensors

    if settings.bits != 16 or dtype != torch.float32:
        return 0
    stored = stored_tensors(folder).values()
    return sum(4 * math.prod(tensor.shape) for tensor in stored if tensor.code == "F32")


def _teacher_bytes(settings: Settings, dtype: "torch.dtype") -> int:
    """Return the bytes of a teacher's weights, a run's as recorded, a model's as they would be loaded."""
    from strop.models.loading import resolve
    from strop.models.meta_model import outline
    from strop.models.precision import described
    from strop.planning.rewards import weights_of_run

    if settings.teacher is None:
        return 0
    folder = Path(settings.teacher)
    for run in (folder, folder.parent.parent):  # or one of its checkpoints
        if (run / "run.json").is_file():
            return weights_of_run(run)
    teacher = outline(str(resolve(settings.teacher)), bits=16, dtype=dtype, rank=0)
    return int(described(teacher)["bytes"])


def _at_hand(chosen: str) -> list[str]:
    """Return the other packaged models that lie unpacked in the cache."""
    from strop.core import env
    from strop.models.packaged import PACKAGED

    return [
        name
        for name in PACKAGED
        if name != chosen and (env.cache_folder() / "models" / name / "config.json").is_file()
    ]


def _scaled(name: str, first: Any, plan: "RunPlan", place: "Place") -> dict[str, Any]:
    """Return about what the same rows take with another model, by its sizes beside the first's."""
    from strop.models.loading import resolve
    from strop.models.precision import described
    from strop.planning.forecast.work import MicroBatch, Work

    settings, forecast = plan.settings, plan.forecast
    assert forecast is not None
    model, there = _outlined(str(resolve(name)), settings, place.device)
    batch = MicroBatch(1024, 256, 1024 * 128)
    works = [Work.of(m, settings.modules, settings.rank) for m in (first, model)]
    operations = [work.training(batch, recomputed=False) for work in works]
    row = _row(name, model, None) | {
        "seconds": forecast.seconds * operations[1] / operations[0],
        "epochs": settings.epochs,
        "about": True,
    }
    if forecast.peak is not None and place.now is not None and there.now is not None:
        step = forecast.peak - place.now.resident - place.now.missing
        widths = [work.blocks * work.heads_width for work in works]
        row["peak"] = round(
            there.now.resident + described(model)["bytes"] + step * widths[1] / widths[0]
        )
        row["fits"] = row["peak"] - there.now.resident <= there.free.bytes
    return row


def _row(name: str, model: Any, plan: Any) -> dict[str, Any]:
    from strop.models.precision import described

    forecast = None if plan is None else plan.forecast
    return {
        "model": name,
        "parameters": described(model)["parameters"],
        "fits": plan is not None,
        "peak": None if forecast is None else forecast.peak,
        "seconds": None if forecast is None else forecast.seconds,
        "epochs": None if plan is None else plan.settings.epochs,
    }


def _best(models: list[dict[str, Any]], settings: Settings) -> str | None:
    """Return the largest model that fits into the memory and the time, if any does."""
    limit = time_in_seconds(settings.time or "") or math.inf
    fitting = [r for r in models if r["fits"] and (r["seconds"] or 0.0) <= limit]
    return max(fitting, key=lambda row: row["parameters"])["model"] if fitting else None
