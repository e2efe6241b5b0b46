"""Runs on one model merged into one run: a joined adapter with all that surrounds it."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from strop.core.digest import file_digest
from strop.core.errors import ConfigError, spelt
from strop.core.files import write_sealed, written_whole
from strop.models.lora.full_weights import CONFIG, WEIGHTS
from strop.models.lora.merging import Recipe, check, join
from strop.runs.run import Run
from strop.runs.tokenizer import save_tokenizer

__all__ = ["Recipe", "merge"]


def merge(runs: Sequence[Path], out: Path, recipe: Recipe, *, overwrite: bool = False) -> Run:
    """Merge the adapters of finished runs and return the run of the result.

    It has record, assets and base of the first, without log, checkpoints and activation statistics,
    which are of single trainings.

    Raises:
        ConfigError: `out` is in use, the runs are of different models, or the recipe does not fit.
        UnsupportedError: an adapter does more than add to weights.
        DataError: a file of a run is missing or damaged.
    """
    opened = [Run.open(path) for path in runs]
    if open_ones := [run.path for run in opened if not run.finished]:
        raise ConfigError(
            f"{open_ones[0]} is not finished; strop train --resume {open_ones[0]} ends it"
        )
    _check_same(opened)
    if out.exists() and (out.is_file() or any(out.iterdir())) and not overwrite:
        raise ConfigError(
            f"out is {out}, which is in use; give another one, or {spelt('overwrite')}"
        )
    folders = [run.weights() for run in opened]
    check(recipe, folders)
    first = opened[0]
    model, _ = first.load_base()
    with written_whole(out) as scratch:
        result = Run(scratch)
        scratch.mkdir()
        join(model, folders, recipe, result.adapter_folder)
        if first.assets_folder.is_dir():
            shutil.copytree(first.assets_folder, result.assets_folder)
        save_tokenizer(first, result.adapter_folder)
        if first.base_folder.is_dir():
            shutil.copytree(first.base_folder, result.base_folder)
        write_sealed(result.record_file, _record(opened, result, recipe, out))
    return Run.open(out)


def _check_same(runs: Sequence[Run]) -> None:
    """Refuse runs on different models, or with different tokenizers."""
    one = runs[0]
    for other in runs[1:]:
        for what, of_one, of_other in (
            ("models", one.record["base"].get("sha256"), other.record["base"].get("sha256")),
            ("tokenizers", one.tokenizer_identity, other.tokenizer_identity),
        ):
            if of_one != of_other:
                raise ConfigError(
                    f"{one.path} and {other.path} were trained on different {what}, so their adapters "
                    "do not add up; merge runs on one model"
                )


def _record(runs: Sequence[Run], result: Run, recipe: Recipe, out: Path) -> dict[str, object]:
    """Return run.json of the result."""
    record = runs[0].record
    for name in ("exports", "best", "stopped_early", "activation_stats", "probe", "evaluation"):
        record.pop(name, None)
    adapter = {name: file_digest(result.adapter_folder / name) for name in (CONFIG, WEIGHTS)}
    settings = {**record["settings"], "out": str(out.absolute())}
    merged = {"runs": [str(run.path.absolute()) for run in runs], **dataclasses.asdict(recipe)}
    return {**record, "settings": settings, "adapter": adapter, "merged": merged}
