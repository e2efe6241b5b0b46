"""Choose the number format to compute in by timing it."""

import functools
import hashlib
import statistics
import time

import torch
from filelock import FileLock

from strop.core import env
from strop.core.files import read_cached, write_cached
from strop.core.system import versions

_ROWS, _WIDTH, _ROUNDS = 128, 768, 25
_CHOICES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_CLEARLY = 0.8
"""bf16 must take less than this share of the fp32 time; below that its rounding is not worth it."""


def compute_dtype(device: torch.device | str | None = None) -> torch.dtype:
    """Return the format matrix products should run in on `device`.

    On a CPU both formats are timed (well under 0.5 s) once for its processor, its number of threads
    and the version of torch, and the choice is kept in the cache: bf16 is twice as fast where the
    processor has a bf16 unit, and eight to ten times slower where it has none.

    Args:
        device: None means CUDA where there is one, else the CPU.

    Returns:
        CUDA: bf16 where supported, else fp16. CPU: the faster of bf16 and fp32. Others: fp32.
    """
    kind = default_device().type if device is None else torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return _faster_on_cpu() if kind == "cpu" else torch.float32


def default_device() -> torch.device:
    """Return the device models are put on: CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gflops(device: torch.device | str | None = None) -> dict[str, float]:
    """Return the speed of a matrix product on `device` for each number format, in GFLOP/s.

    Args:
        device: None means CUDA where there is one, else the CPU.
    """
    work = 2 * _ROWS * _WIDTH * _WIDTH / 1e9
    seconds = _seconds(torch.device(default_device() if device is None else device))
    return {str(dtype).removeprefix("torch."): work / s for dtype, s in seconds.items()}


@functools.cache
def _faster_on_cpu() -> torch.dtype:
    machine = f"{versions.processor()}\n{torch.get_num_threads()} {torch.__version__}"
    digest = hashlib.sha256(machine.encode()).hexdigest()[:16]
    file = env.cache_folder() / "compute_dtype" / f"{digest}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # processes that start at once choose the same
            if cached := read_cached(file):
                return _CHOICES[cached["dtype"]]
            dtype = _timed_on_cpu()
            write_cached(file, {"dtype": str(dtype).removeprefix("torch.")})
            return dtype
    except (OSError, NotImplementedError):  # a cache that cannot be written, or that knows no locks
        return _timed_on_cpu()


def _timed_on_cpu() -> torch.dtype:
    median = _seconds(torch.device("cpu"))
    faster = median[torch.bfloat16] < _CLEARLY * median[torch.float32]
    return torch.bfloat16 if faster else torch.float32


def _seconds(device: torch.device) -> dict[torch.dtype, float]:
    """Return the median time of one product in each format, the formats timed in turn."""
    rows = torch.ones(_ROWS, _WIDTH, device=device)
    weight = torch.ones(_WIDTH, _WIDTH, device=device)
    inputs = {
        dtype: (rows.to(dtype), weight.to(dtype)) for dtype in (torch.float32, torch.bfloat16)
    }
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
