"""How much is computed at once, and what is kept for backward, so that a step fits into memory.

The peak of a step is affine in the number of blocks and in the number of tokens, so four small
simulated steps of each mode of activations tell it for a model of any depth and a batch of any size:

    bytes(L, N) = a + b N + L (c + d N)

Those four numbers are cached per architecture, format, rank and activations.
"""

import dataclasses
import hashlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from strop.core import env
from strop.core.files import write_json
from strop.core.system.versions import installed
from strop.forward.decoder.block_families import FAMILIES
from strop.models.precision import bits_of, computes_in, described
from strop.planning.machine import FreeMemory, free_memory
from strop.planning.memory import simulate
from strop.planning.settings import Settings
from strop.planning.step import Setup

BUDGETS = (None, 32768, 16384, 8192, 4096, 2048, 1024)
"""Token budgets tried in turn; a row longer than the budget is still computed whole."""
ACTIVATIONS = ("keep", "checkpoint", "offload")
"""From the fastest to the leanest."""
RESERVE = 0.1
"""Share of the free memory that a plan leaves alone: predictions are within 5 % (docs/memory.md)."""
LAYERS = (2, 3)
ROWS = {"keep": (1, 2), "checkpoint": (4, 8), "offload": (4, 8)}
"""Rows of `LENGTH` tokens simulated: the lean modes run the MLP in chunks of 2,048 tokens."""
LENGTH = 768
UNKNOWN = 4096
"""Token budget for blocks that are of no known family or not all alike, whose memory is not simulated."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepPlan:
    """What is kept for backward, how much is computed at once, and the memory that takes."""

    activations: str
    micro_batch_tokens: int | None
    peak: int | None
    """Predicted bytes of the process at its peak; None where it cannot be predicted."""
    free: int
    """Bytes that could still be taken when the plan was made."""
    sentence: str
    """The plan in words."""


@dataclasses.dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes that a step adds to its weights: a + b N + L (c + d N)."""

    a: float
    b: float
    c: float
    d: float

    def __call__(self, layers: int, tokens: int) -> int:
        """Return the bytes of a step on so many tokens at once through so many blocks."""
        return round(self.a + self.b * tokens + layers * (self.c + self.d * tokens))


def plan_step(
    model: Any, lengths: Sequence[int], settings: Settings, free: FreeMemory | None = None
) -> StepPlan:
    """Return the fastest way to take a step that fits into the memory that is free.

    Args:
        model: a loaded transformers model, without its adapter.
        lengths: tokens of each training row.
        settings: of the run; what they leave open is chosen.
        free: memory that may be taken; None asks the machine.
    """
    free = free or free_memory(model.device)
    activations, micro_batch_tokens = settings.activations, settings.micro_batch_tokens
    most = sum(sorted(lengths)[-settings.batch_size :])
    if not _known(model):
        budget = micro_batch_tokens or (UNKNOWN if most > UNKNOWN else None)
        lean = "keep" if activations == "auto" else activations
        text = "memory is not predicted for blocks of this kind; " + _words(lean, budget)
        return StepPlan(lean, budget, None, free.bytes, text)
    modes = ACTIVATIONS if activations == "auto" else (activations,)
    budgets = BUDGETS if micro_batch_tokens is None else (micro_batch_tokens,)
    largest, layers = max(lengths), len(model.base_model.layers)
    held, room = _held(model), (1 - RESERVE) * free.bytes
    for kind in modes:
        memory = step_memory(model, kind, rank=settings.rank, targets=settings.modules)
        for budget in budgets:
            worst = min(most, max(budget or most, largest))
            growth = held.missing + memory(layers, worst)
            if growth <= room:
                drawn = min(worst, _largest_drawn(lengths, settings.batch_size, settings.seed))
                peak = held.resident + held.missing + memory(layers, drawn)
                return _plan(kind, budget, worst < most, peak, growth, free)
    peak = held.resident + growth
    return _plan(kind, budget, worst < most, peak, growth, free)


def _plan(
    activations: str, budget: int | None, cut: bool, peak: int, growth: int, free: FreeMemory
) -> StepPlan:
    budget = budget if cut else None  # a batch that fits whole needs no budget
    text = f"{_words(activations, budget)}; about {peak / 1e6:,.0f} MB at the peak"
    if growth > free.bytes:
        text += (
            f", which is {(growth - free.bytes) / 1e6:,.0f} MB more than {free.bound} leaves: "
            "a lower max_length or rank, or fewer bits, need less"
        )
    return StepPlan(activations, budget, peak, free.bytes, text)


def _words(activations: str, budget: int | None) -> str:
    kept = {
        "keep": "activations kept",
        "checkpoint": "blocks recomputed in backward",
        "offload": "blocks recomputed in backward, their inputs in a file",
    }[activations]
    whole = "each batch at once" if budget is None else f"{budget:,} tokens at once"
    return f"{kept}, {whole}"


def _known(model: Any) -> bool:
    """Say whether the model's blocks are of one known family and all alike."""
    blocks = getattr(model.base_model, "layers", None) or ()
    families = [FAMILIES.get(type(block).__name__) for block in blocks]
    return len(families) > 0 and all(f is not None and not f.hybrid for f in families)


@dataclasses.dataclass(frozen=True, slots=True)
class _Held:
    resident: int
    """Bytes of the process in memory now."""
    missing: int
    """Bytes of mapped weights that come into memory as a step reads them."""


def _held(model: Any) -> _Held:
    if model.device.type != "cpu":
        return _Held(described(model)["bytes"], 0)
    process = psutil.Process()
    missing = 0
    if hasattr(process, "memory_maps"):  # not on macOS
        maps = process.memory_maps(grouped=False)
        weights = [m for m in maps if m.path.endswith(".safetensors")]
        missing = sum(_size(m.addr) - m.rss for m in weights)
    return _Held(process.memory_info().rss, missing)


def _size(address: str) -> int:
    first, _, last = address.partition("-")
    return int(last, 16) - int(first, 16)


def _largest_drawn(lengths: Sequence[int], batch_size: int, seed: int) -> int:
    """Return the tokens of the largest batch of an epoch in random order."""
    order = random.Random(seed).sample(lengths, len(lengths))
    return max(sum(order[i : i + batch_size]) for i in range(0, len(order), batch_size))


def step_memory(
    model: Any, activations: str, *, rank: int, targets: str | Sequence[str]
) -> StepMemory:
    """Return the memory of a step of this model's architecture, from the cache or simulated."""
    setup = {
        "bits": bits_of(model),
        "dtype": str(computes_in(model)).removeprefix("torch."),
        "rank": rank,
        "targets": targets if isinstance(targets, str) else tuple(targets),
        "activations": activations,
        "device": "cuda" if model.device.type == "cuda" else "cpu",
    }
    config = model.config.get_text_config().to_dict()
    config = {k: v for k, v in config.items() if k not in ("num_hidden_layers", "_name_or_path")}
    key = json.dumps([config, setup, installed()], sort_keys=True, default=str)
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    file = env.cache_folder() / "plans" / f"{name}.json"
    if file.is_file():
        return StepMemory(**json.loads(file.read_text(encoding="utf-8")))
    memory = _simulated(config, setup)
    try:
        write_json(file, dataclasses.asdict(memory))
    except OSError:  # a cache that cannot be written costs seconds, nothing else
        return memory
    return memory


def _simulated(config: Mapping[str, Any], setup: Mapping[str, Any]) -> StepMemory:
    few, many = ROWS[setup["activations"]]
    grid = [(layers, rows) for layers in LAYERS for rows in (few, many)]
    steps = simulate(
        *(
            Setup(config=_cut(config, layers), rows=(LENGTH,) * rows, **setup)
            for layers, rows in grid
        )
    )
    (low_few, low_many, high_few, high_many) = (
        (step.resident or step.peak) - step.at_peak.get("weights", 0) for step in steps
    )
    tokens, more = few * LENGTH, (many - few) * LENGTH
    low, high = (low_many - low_few) / more, (high_many - high_few) / more  # bytes a token
    d = (high - low) / (LAYERS[1] - LAYERS[0])
    b = low - LAYERS[0] * d
    c = (high_few - low_few) / (LAYERS[1] - LAYERS[0]) - d * tokens
    a = low_few - b * tokens - LAYERS[0] * (c + d * tokens)
    return StepMemory(a, b, c, d)


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return the configuration of the same architecture with so many blocks, of its kinds in turn."""
    few = {k: v for k, v in config.items() if v is not None}
    if isinstance(kinds := config.get("layer_types"), list):
        few["layer_types"] = list(itertools.islice(itertools.cycle(kinds), layers))
    return {**few, "num_hidden_layers": layers}
