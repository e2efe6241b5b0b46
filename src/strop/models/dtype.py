"""Choose the number format to compute in by timing a step."""

import hashlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from strop.core import env, native
from strop.core.files import read_cached, write_cached
from strop.core.system import versions
from strop.models.precision import Bits

_ROWS, _WIDTH, _ROUNDS = 128, 768, 25
_CHOICES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TIMED = "the fastest of warm rounds"
"""How formats are timed; those timed in another way are timed again."""
_CLEARLY = 0.95
"""bfloat16 must take less than this share of float32's time: what is as fast is taken exact."""
_SMALL = 5_000_000
"""Weights below which a step takes no time worth saving, and runs in float32."""
VOCABULARY = 8_192
"""Largest head that is timed, so that beside a few blocks it weighs what it does beside all."""
SIZES = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size",
)  # fmt: skip
TYPICAL = dict(zip(SIZES, (576, 1536, 4, 9, 3, 64, 8_192), strict=True))
"""Sizes of a small model, which stand in where a configuration does not tell its own."""


def compute_dtype(
    config: Any = None, bits: Bits = 16, device: torch.device | str | None = None
) -> torch.dtype:
    """Return the format a model's steps should run in on `device`.

    On a CPU a short step of the model is timed in both formats (`timed_step`, two to three seconds)
    once for its sizes, the processor, the number of threads and the versions, and kept in the cache.

    Args:
        config: of a transformers model; None stands for a small one.
        bits: the frozen weights are held in.
        device: None means CUDA where there is one, else the CPU.

    Returns:
        CUDA: bf16 where supported, else fp16. CPU: the faster of bf16 and fp32. Others: fp32.
    """
    kind = default_device().type if device is None else torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if kind != "cpu":
        return torch.float32
    return _CHOICES[_times(config, bits)["dtype"]]


def reason(config: Any, bits: Bits) -> str:
    """Return what a step of the model took in each format on the CPU, if it has been timed; else ""."""
    cached = _cached(_file(config, bits)) or {}
    seconds = cached.get("seconds") or {}
    if len(seconds) < len(_CHOICES):
        return ""
    slower, faster = sorted(seconds, key=lambda name: -seconds[name])
    return f"a short step took {seconds[faster]:.2g} s in {faster} and {seconds[slower]:.2g} s in {slower}"


def default_device() -> torch.device:
    """Return the device models are put on: CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gflops(device: torch.device | str | None = None) -> dict[str, float]:
    """Return the speed of a matrix product on `device` for each number format, in GFLOP/s.

    Args:
        device: None means CUDA where there is one, else the CPU.
    """
    work = 2 * _ROWS * _WIDTH * _WIDTH / 1e9
    seconds = _product_seconds(torch.device(default_device() if device is None else device))
    return {str(dtype).removeprefix("torch."): work / s for dtype, s in seconds.items()}


def sizes_of(config: Any) -> dict[str, int]:
    """Return the sizes that a model's configuration tells, those of a small model for the others."""
    text = None if config is None else config.get_text_config()
    sizes = {name: getattr(text, name, None) for name in SIZES}
    if not isinstance(sizes["hidden_size"], int):
        return dict(TYPICAL)
    heads = sizes["num_attention_heads"] or 1
    derived = {
        "num_key_value_heads": heads,
        "head_dim": sizes["hidden_size"] // heads,
        "intermediate_size": 4 * sizes["hidden_size"],
    }
    return {
        name: value if isinstance(value := sizes[name], int) else derived.get(name, TYPICAL[name])
        for name in SIZES
    }


def parameters(sizes: dict[str, int]) -> tuple[int, int]:
    """Return how many weights the linear layers of a block have, and the head that is timed."""
    D, C = sizes["hidden_size"], sizes["head_dim"]
    heads = 2 * sizes["num_attention_heads"] + 2 * sizes["num_key_value_heads"]
    return D * (heads * C + 3 * sizes["intermediate_size"]), D * min(
        sizes["vocab_size"], VOCABULARY
    )


def _times(config: Any, bits: Bits) -> dict[str, Any]:
    """Return the faster format and the seconds of each, from the cache or timed now."""
    sizes = sizes_of(config)
    block, head = parameters(sizes)
    if bits == 32 or sizes["num_hidden_layers"] * block + head < _SMALL:
        return {"dtype": "float32", "seconds": {}}
    file = _file(config, bits)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # processes that start at once choose the same
            if cached := _cached(file):
                return cached
            times = _timed(config, bits)
            write_cached(file, times)
            return times
    except (OSError, NotImplementedError):  # a cache that cannot be written, or that knows no locks
        return _timed(config, bits)


def _file(config: Any, bits: Bits) -> Path:
    """Return the file in the cache for these sizes on this machine, as it is now."""
    machine = versions.processor(), torch.get_num_threads(), native.at_hand()
    what = _TIMED, bits, sizes_of(config), getattr(config, "model_type", None), versions.installed()
    digest = hashlib.sha256(json.dumps([machine, what]).encode()).hexdigest()[:16]
    return env.cache_folder() / "compute_dtype" / f"{digest}.json"


def _timed(config: Any, bits: Bits) -> dict[str, Any]:
    from strop.models.timed_step import step_seconds  # with it come TRL and PEFT

    # Other programs only make a round slower: the fastest one of each format is its own.
    seconds = {name: min(rounds) for name, rounds in step_seconds(config, bits).items()}
    faster = seconds["bfloat16"] < _CLEARLY * seconds["float32"]
    return {"dtype": "bfloat16" if faster else "float32", "seconds": seconds}


def _cached(file: Path) -> dict[str, Any] | None:
    cached = read_cached(file)
    return cached if isinstance(cached, dict) and cached.get("dtype") in _CHOICES else None


def _product_seconds(device: torch.device) -> dict[torch.dtype, float]:
    """Return the median time of one product in each format, the formats timed in turn."""
    rows = torch.ones(_ROWS, _WIDTH, device=device)
    weight = torch.ones(_WIDTH, _WIDTH, device=device)
    inputs = {dtype: (rows.to(dtype), weight.to(dtype)) for dtype in _CHOICES.values()}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in inputs}
    with torch.inference_mode():
        for _ in range(1 + _ROUNDS):  # the first round warms up
            for dtype, (a, b) in inputs.items():
                start = time.perf_counter()
                a @ b
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[dtype].append(time.perf_counter() - start)
    return {dtype: statistics.median(times[1:]) for dtype, times in seconds.items()}
