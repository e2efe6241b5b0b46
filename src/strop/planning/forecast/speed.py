"""Seconds of a micro-batch: timed on this machine, or bounded by what a device can do at most.

    seconds = a L + F / s    for L blocks and F operations

Two micro-batches of a few of the model's blocks give a and s. They are cached per model, number
format, processor, threads and versions, with the seconds of a fixed product; what that product takes
now tells how much faster or slower the machine has become. A machine that is not here gets s as a share
of its maker's number, which is an estimate and is called one.
"""

import dataclasses
import hashlib
import json
import os
import statistics
import time
from typing import Any

import torch

from strop.core import env, native
from strop.core.files import read_cached, write_cached
from strop.core.system import versions
from strop.core.system.processes import seconds_of_others
from strop.models.dtype import SIZES, sizes_of
from strop.models.precision import bits_of, computes_in
from strop.planning.forecast.devices import Device
from strop.planning.forecast.pace import product_seconds
from strop.planning.forecast.work import MicroBatch, Work

CACHE_VERSION = 4
UTILISATION = (0.2, 0.35, 0.6)
"""Share of a card's number that training reaches: least, likely, most."""
ERROR = 0.15
"""Share by which seconds of a timed machine may be off."""
QUIET = 0.1
"""Share of the processor that others may take while it is timed; with more, it is timed again."""
STEP = 0.02
"""Seconds of a step that neither model nor optimizer takes: the trainer's."""
SAVE, SAVED_WEIGHT = 0.1, 3e-8
"""Seconds of a checkpoint, and of each trained weight in it: itself and AdamW's two means, hashed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """How long a device takes."""

    block: float
    """Seconds of each block whatever the tokens: weights are widened, adapters folded."""
    flop: float
    """Seconds of an operation."""
    weight: float
    """Seconds of the optimizer for each weight it trains."""
    low: float
    high: float
    """Factors of the least and most time that are likely."""
    estimate: bool
    """Nothing was timed."""

    def training(self, work: Work, batch: MicroBatch, *, recomputed: bool) -> float:
        """Return the seconds of forward and backward."""
        fixed = self.block * work.blocks
        return fixed + self.flop * work.training(batch, recomputed=recomputed)

    def evaluation(self, work: Work, batch: MicroBatch) -> float:
        """Return the seconds of a forward pass."""
        return self.block * work.blocks / 2 + self.flop * work.evaluation(batch)

    def optimizer(self, work: Work) -> float:
        """Return the seconds of a step beside its micro-batches."""
        return STEP + self.weight * work.adapter * work.blocks

    def checkpoint(self, work: Work) -> float:
        """Return the seconds of writing a checkpoint."""
        return SAVE + SAVED_WEIGHT * work.adapter * work.blocks


def speed(model: Any, device: Device) -> Speed:
    """Return how fast steps of a model are on a device, from the cache, timed now, or estimated."""
    if not device.here:
        least, likely, most = UTILISATION
        return Speed(1e-4, 1 / (likely * device.flops), 4e-11, likely / most, likely / least, True)
    numbers = _timed(model)
    work = Work.timed(dict(numbers["sizes"]), numbers["blocks"], numbers["trained"])
    few, many = (
        work.training(_four_rows(tokens), recomputed=False) for tokens in numbers["tokens"]
    )
    pace = numbers["pace"]
    short, long = (pace * statistics.median(seconds) for seconds in numbers["seconds"])
    flop = max((long - short) / (many - few), long / many / 4)
    block = max(0.0, (long - flop * many) / work.blocks)
    undisturbed = 1 - min(numbers["others"], 0.7) if numbers["others"] > QUIET else 1.0
    optimizer = pace * numbers["optimizer"] / numbers["trained"]
    return Speed(block, flop, optimizer, (1 - ERROR) * undisturbed, 1 + ERROR, False)


def _four_rows(tokens: int) -> MicroBatch:
    length = tokens // 4
    return MicroBatch.of_rows([length] * 4, 4 * (length // 4))


def _timed(model: Any) -> dict[str, Any]:
    """Return what `micro_batch_seconds` returns, from the cache or timed now, `pace` and `others`.

    `pace` is by how much a product takes longer now than when the numbers were timed; `others` the share
    of the processor that other processes took meanwhile; what they disturbed is not cached.
    """
    config, bits, dtype = model.config.get_text_config(), bits_of(model), computes_in(model)
    machine = versions.processor(), torch.get_num_threads(), native.at_hand()
    what = CACHE_VERSION, sizes_of(config), config.model_type, bits, str(dtype)
    key = json.dumps([machine, what, versions.installed()])
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    file = env.cache_folder() / "step_times" / f"{name}.json"
    cached = read_cached(file)
    if isinstance(cached, dict) and set(cached.get("sizes", ())) == set(SIZES):
        return cached | {"pace": product_seconds(dtype) / cached["product"]}
    from strop.models.timed_step import micro_batch_seconds  # with it come TRL and PEFT

    began, others = time.perf_counter(), seconds_of_others()
    numbers = micro_batch_seconds(config, bits, dtype)
    spent = (time.perf_counter() - began) * (os.cpu_count() or 1)
    numbers["others"] = max(0.0, seconds_of_others() - others) / spent
    numbers["product"] = product_seconds(dtype)
    if numbers["others"] <= QUIET:
        write_cached(file, numbers)
    return numbers | {"pace": 1.0}
