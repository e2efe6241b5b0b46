"""Description of a training: in run.json, on the terminal, and compared when it is resumed."""

import dataclasses
import datetime
import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from strop.core import native
from strop.core.digest import file_digest
from strop.core.errors import DataError, UnsupportedError, spelt
from strop.core.files import written_whole
from strop.core.progress import Progress, duration
from strop.core.system import versions
from strop.core.system.disk import format_size
from strop.data.left_out import left_out
from strop.models.dtype import reason
from strop.models.precision import bits_of, described, dtype_name
from strop.models.quantized.activation_stats import input_statistics
from strop.planning.plan import StepPlan
from strop.planning.settings import Settings
from strop.runs import report
from strop.runs.checkpoints import step_of
from strop.runs.noise_scale import noise_scale
from strop.runs.outcome import outcome
from strop.runs.run import Run
from strop.training.dataset import TrainingData
from strop.training.eval_metrics import share_sentence
from strop.training.trainer import steps

logger = logging.getLogger(__name__)


def first_record(
    settings: Settings, model: Any, data: TrainingData[Any], plan: StepPlan | None
) -> dict[str, Any]:
    """Return what run.json holds before the first step."""
    now = datetime.datetime.now(datetime.UTC)
    weights = described(model)
    return {
        "status": "running",
        "started": now.isoformat(timespec="seconds"),
        "settings": settings.plain(),
        "model": {
            "family": model.config.model_type,
            "parameters": weights["parameters"],
            "dtype": dtype_name(model),
            "device": str(model.device),
            "weights": weights,
        },
        "data": data.facts,
        "steps": steps(settings, len(data.token_ids))[1],
        "planned": None if plan is None else dataclasses.asdict(plan),
        "versions": versions.installed(),
        "machine": _machine(),
        "commit": versions.commit(),
        "samples": [[dataclasses.asdict(piece) for piece in row] for row in data.samples],
    }


def check_unchanged(record: Mapping[str, Any], model: Any, facts: Mapping[str, Any]) -> None:
    """Refuse to resume with other tokens or another number format; log changed versions.

    Args:
        record: what run.json holds.
        model: as it was loaded now.
        facts: of the data as it was read now.

    Raises:
        DataError: the data has changed.
        UnsupportedError: the number format has changed.
    """
    if record["data"]["sha256"] != facts["sha256"]:
        raise DataError(
            f"{facts['source']} no longer gives the tokens this run was started with; "
            "restore the data, or start a new run"
        )
    if record["model"]["dtype"] != (dtype := dtype_name(model)):
        raise UnsupportedError(
            f"the run was started in {record['model']['dtype']} and the model that was given "
            f"computes in {dtype}; leave the model out, and that of the run is loaded"
        )
    if record["settings"]["bits"] != (bits := bits_of(model)):
        raise UnsupportedError(
            f"the run was started with weights in {record['settings']['bits']} bits and the model "
            f"now has them in {bits}; load it with {spelt('bits', record['settings']['bits'])}"
        )
    before = {**record["versions"], **record["machine"], "commit": record["commit"]}
    now = {**versions.installed(), **_machine(), "commit": versions.commit()}
    changed = [
        f"{name} was {before[name]} and is now {now.get(name)}"
        for name in before
        if before[name] != now.get(name)
    ]
    if changed:
        logger.warning("the resumed run may end with other last bits: %s", "; ".join(changed))


def digests(run: Run) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of the files that decide what an adapter computes, and how it is rounded."""
    names = ("adapter_config.json", "adapter_model.safetensors")
    return {
        "adapter": {name: file_digest(run.adapter_folder / name) for name in names},
        "activation_stats": {"sha256": file_digest(run.activation_stats_file)},
    }


def save_activation_stats(run: Run, model: Any, texts: Iterable[list[int]]) -> None:
    """Save activation statistics for exports while model and data are loaded."""
    stats = input_statistics(model, iter(texts))
    with written_whole(run.activation_stats_file) as path:
        save_file(stats, path)


def data_sentences(data: TrainingData[Any], settings: Settings) -> list[str]:
    """Return sentences about the rows to train on, and what of them is not seen."""
    facts = data.facts
    total = steps(settings, len(data.token_ids))[1]
    share = 100 * facts["supervised_tokens"] / max(1, facts["tokens"])
    answers = share < 100 and settings.method != "text"
    learned = "are answers, which is what is learned" if answers else "are learned"
    return [
        f"{facts['rows']:,} rows of {facts['source']} ({facts['format']}), "
        f"{facts['held_out_rows']:,} more held out",
        f"{facts['tokens']:,} tokens an epoch, {share:.0f} % of them {learned}, in {total:,} steps",
        f"max_length {facts['max_length']:,}; the longest row has {facts['longest_row']:,} tokens",
        *facts["notes"],
        *left_out(facts),
        *_findings_sentence(facts, named=settings.data is not None),
    ]


def _findings_sentence(facts: Mapping[str, Any], *, named: bool) -> Iterator[str]:
    if findings := facts["findings"]:
        counts = (f"{kind.replace('_', ' ')} in {count:,}" for kind, count in findings.items())
        where = f"strop data check {facts['source']}" if named else "strop.data.check"
        yield f"data check, rows with {', '.join(counts)}; {where} says which and what to do"


def announced_fitting(shown: Progress, announce: Callable[[str], None]) -> Progress:
    """Return the progress of fitting 4 bits, which says first what takes so long, and how long.

    Args:
        shown: is called as well.
        announce: takes the sentences.
    """
    started: list[float] = []

    def progress(stage: str, done: int, total: int) -> None:
        if not started:
            announce(f"plan    {_fitting_sentence()}")
        elif done == 1:
            announce(f"plan    {_time_sentence(time.monotonic() - started[-1], total)}")
        started.append(time.monotonic())
        shown(stage, done, total)

    return progress


def _fitting_sentence() -> str:
    return (
        "the weights of the model are fitted to 4 bits, once: later runs take them from the cache. "
        f"How long it takes, the first block will tell; {spelt('bits', 16)} skips it, in more memory"
    )


def _time_sentence(seconds: float, blocks: int) -> str:
    return (
        f"fitting takes about {duration(seconds * blocks)}: the first of {blocks:,} blocks took "
        f"{duration(seconds)}"
    )


def resumed_sentence(record: Mapping[str, Any], checkpoint: Path | None) -> str:
    """Return a sentence about the step from which a run is resumed."""
    if checkpoint is None:
        return "no checkpoint was saved yet, so the run begins at step 0"
    return f"the run goes on after step {step_of(checkpoint):,} of {record['steps']:,}"


def result_sentences(run: Run) -> Iterator[str]:
    """Yield sentences about losses, time and memory of a run, measured beside planned."""
    record = run.record
    yield from outcome(run.log, record).sentences()
    if noise := noise_scale(run.log, record["settings"]["batch_size"]):
        yield noise.sentence
    if best := report.best_sentence(run):
        yield best
    if share := share_sentence(record):
        yield share
    measured, planned = record["measured"], (record["planned"] or {}).get("peak")
    predicted = (record.get("forecast") or {}).get("seconds")
    yield (
        f"{duration(measured['seconds'])} for {measured['tokens']:,} tokens, "
        f"{measured['tokens_per_second']:,.0f} a second"
        + (f"; {duration(predicted)} predicted" if predicted and run.finished else "")
    )
    peaks = [f"{format_size(n)} of {kind} memory" for kind, n in measured["peak_memory"].items()]
    yield f"at most {', '.join(peaks)}" + (
        f"; {format_size(planned)} of main memory planned" if planned else ""
    )


def weights_sentence(model: Any) -> str:
    """Return a sentence about the size of a model's weights and the format of its products."""
    weights = described(model)
    exact = weights.get("bits_per_quantised_weight", weights["bits"])
    why = reason(model.config, bits_of(model)) if model.device.type == "cpu" else ""
    return (
        f"{weights['bits']}-bit weights, {format_size(weights['bytes'])} for "
        f"{weights['parameters'] / 1e6:,.0f} million ({exact:g} bits a linear weight); "
        f"computing in {dtype_name(model)}" + (f" ({why})" if why else "")
    )


def _machine() -> dict[str, Any]:
    """Return what of a machine decides the last bits of a product."""
    return {
        "processor": hashlib.sha256(versions.processor().encode()).hexdigest()[:16],
        "threads": torch.get_num_threads(),
        "compiled code": native.at_hand(),
    }
