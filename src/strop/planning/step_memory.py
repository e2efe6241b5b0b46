"""Bytes that a training step adds to its weights, for a model of any depth and a batch of any size.

A step of N tokens, M of them labelled, through L blocks takes at its peak

    max(blocks(L, N) + u M, saved(L, N) + v M + w tile(M)),    blocks and saved: a + b N + L (c + d N)

for the last block computes labelled tokens only from its attention on, and the logits of a tile of
labelled tokens are alive beside what is saved for backward and nothing else.
Five small simulated steps give these numbers; they are cached per architecture, format, rank and
activations.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

from strop.core import env
from strop.core.files import read_cached, write_cached
from strop.core.system.versions import installed
from strop.models.precision import bits_of, computes_in
from strop.ops.linear_log_prob.cpu import TILE_BYTES
from strop.ops.linear_log_prob.tiled import tile_rows
from strop.planning.memory import simulate
from strop.planning.step import Setup

CACHE_VERSION = 8
"""Counts up when the cached numbers mean something else."""
LAYERS = (2, 3)
ROWS = {"keep": (1, 2), "checkpoint": (4, 8), "offload": (4, 8)}
"""Rows of `LENGTH` tokens simulated: the lean activations run the MLP in chunks of 2,048 tokens."""
LENGTH = 768


@dataclasses.dataclass(frozen=True, slots=True)
class Affine:
    """a + b N + L (c + d N) bytes for N tokens and L blocks."""

    a: float
    b: float
    c: float
    d: float

    def __call__(self, layers: int, tokens: int) -> float:
        """Return the bytes of so many tokens through so many blocks."""
        return self.a + self.b * tokens + layers * (self.c + self.d * tokens)

    @classmethod
    def through(cls, few: int, many: int, values: Sequence[float]) -> Self:
        """Return what has these values at few and many tokens of two blocks, then of three."""
        low_few, low_many, high_few, high_many = values
        low, high = (low_many - low_few) / (many - few), (high_many - high_few) / (many - few)
        step = LAYERS[1] - LAYERS[0]
        d = (high - low) / step
        b = low - LAYERS[0] * d
        c = (high_few - low_few) / step - d * few
        return cls(low_few - b * few - LAYERS[0] * (c + d * few), b, c, d)


def rows_at_once(labels: int, most: int) -> int:
    """Return the rows of the tiles in which the logits of labelled tokens are computed."""
    return -(-labels // -(-labels // most)) if labels else 0


@dataclasses.dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes that a step adds to its weights."""

    blocks: Affine
    """Most at any time, with hardly any token labelled."""
    saved: Affine
    """Between forward and backward."""
    label: float
    """Added to `blocks` by each labelled token."""
    label_saved: float
    """Added to `saved` by each labelled token."""
    logit_row: float
    """Added beside `saved` by each row of a tile of logits."""
    tile: int
    """Most rows of a tile."""
    gradients: Affine
    """Gradients, which stay from one micro-batch to the next."""
    products: int
    """Matrix products of different shapes in a micro-batch."""

    def __call__(self, layers: int, tokens: int, labels: int, *, several: bool = False) -> int:
        """Return the bytes of a step.

        Args:
            layers: blocks of the model.
            tokens: computed at once.
            labels: how many of these are labelled.
            several: the batch is computed in several micro-batches.
        """
        logits = self.logit_row * rows_at_once(labels, self.tile)
        forward = self.saved(layers, tokens) + self.label_saved * labels + logits
        most = max(self.blocks(layers, tokens) + self.label * labels, forward)
        return round(most + (self.gradients(layers, tokens) if several else 0))


def step_memory(
    model: Any,
    activations: str,
    *,
    rank: int,
    targets: str | Sequence[str],
    device: str | None = None,
    update_in_backward: bool = False,
) -> StepMemory:
    """Return the memory of a step of this model's architecture, from the cache or simulated.

    Args:
        model: a transformers model; its weights are not looked at.
        activations: what is kept for backward.
        rank: of the adapter; 0 trains all weights.
        targets: layers that get one.
        device: cpu or cuda; None takes the model's.
        update_in_backward: each gradient is let go as soon as it is there.
    """
    setup: dict[str, Any] = {
        "bits": bits_of(model),
        "dtype": str(computes_in(model)).removeprefix("torch."),
        "rank": rank,
        "targets": targets if isinstance(targets, str) else tuple(targets),
        "activations": activations,
        "device": "cuda" if (device or model.device.type) == "cuda" else "cpu",
        **({"update_in_backward": True} if update_in_backward else {}),
    }
    config = model.config.get_text_config().to_dict()
    config = {k: v for k, v in config.items() if k not in ("num_hidden_layers", "_name_or_path")}
    key = json.dumps([CACHE_VERSION, config, setup, installed()], sort_keys=True, default=str)
    name = hashlib.sha256(key.encode()).hexdigest()[:24]
    file = env.cache_folder() / "plans" / f"{name}.json"
    if numbers := read_cached(file):
        return _read(numbers)
    memory = _simulated(config, setup)
    write_cached(file, dataclasses.asdict(memory))
    return memory


def _read(numbers: Mapping[str, Any]) -> StepMemory:
    affine = {name: Affine(**numbers[name]) for name in ("blocks", "saved", "gradients")}
    return StepMemory(**{**numbers, **affine})


def _simulated(config: Mapping[str, Any], setup: Mapping[str, Any]) -> StepMemory:
    few, many = ROWS[setup["activations"]]
    grid = [(layers, rows, 1) for layers in LAYERS for rows in (few, many)]
    *steps, labelled = simulate(
        *(
            Setup(
                config=_cut(config, layers),
                rows=(LENGTH,) * rows,
                answers=(answers,) * rows,
                **setup,
            )
            for layers, rows, answers in [*grid, (LAYERS[0], few, LENGTH - 1)]
        )
    )
    # Without an adapter what is trained are the weights.
    kinds = ("weights",) if setup["rank"] else ("weights", "adapter")
    weights = [sum(step.at_peak.get(kind, 0) for kind in kinds) for step in steps]
    # Small blocks that the heap keeps depend on the moment more than on size or depth.
    heap = sum(max(0, step.resident - step.peak) for step in steps) / len(steps)
    tile = tile_rows(config["vocab_size"], config["hidden_size"], TILE_BYTES)
    few_labels, labels = few, few * (LENGTH - 1)
    plain = steps[0]
    return StepMemory(
        blocks=_affine(few, many, [s.peak - w + heap for s, w in zip(steps, weights, strict=True)]),
        saved=_affine(
            few, many, [s.after_forward - w for s, w in zip(steps, weights, strict=True)]
        ),
        label=(labelled.phases["backward"] - plain.phases["backward"]) / (labels - few_labels),
        label_saved=(labelled.after_forward - plain.after_forward) / (labels - few_labels),
        logit_row=(labelled.phases["forward"] - labelled.after_forward)
        / rows_at_once(labels, tile),
        tile=tile,
        gradients=_affine(few, many, [step.at_peak["adapter"] for step in steps]),
        products=plain.products,
    )


def _affine(few: int, many: int, values: Sequence[float]) -> Affine:
    return Affine.through(few * LENGTH, many * LENGTH, values)


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return the configuration of the same architecture with so many blocks, of its kinds in turn."""
    few = {k: v for k, v in config.items() if v is not None}
    if isinstance(kinds := config.get("layer_types"), list):
        few["layer_types"] = list(itertools.islice(itertools.cycle(kinds), layers))
    return {**few, "num_hidden_layers": layers}
