"""Time implementations of an operation against each other and record every measurement."""

import datetime
import inspect
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from strop.core import files
from strop.core.errors import UnsupportedError
from strop.testing import saved_bytes

ROUNDS = 15
ROOT = Path(__file__).parents[3]
Call = Callable[[], Any]


class Case(Protocol):
    """One call to measure."""

    def inputs(self, device: str) -> tuple[Tensor, ...]:
        """Return the tensors of the call; the first is the one that needs a gradient."""

    def settings(self, device: str) -> dict[str, Any]:
        """Return the keyword arguments of the call."""


def run(op: Callable[..., Any], impl: str, cases: Sequence[Case]) -> Iterator[str]:
    """Measure `impl`, eager PyTorch and `torch.compile` on every case; yield a line for each case.

    Timed are forward and backward together, with a gradient for the first input only: the weights
    are frozen, as in training an adapter. The candidates take turns within each round; reported
    are medians, and the median over the rounds of each time divided by the time of `impl`.
    Each measurement is added to `benchmarks/results/<device>/<operation>.jsonl`.

    Args:
        op: the public function.
        impl: the implementation that is the subject.
        cases: what to call it on.

    Raises:
        UnsupportedError: the measured code differs from its commit, or its tests fail.
    """
    folder = Path(inspect.getfile(op)).parent
    _refuse_unfinished(folder)
    device = "cuda" if impl == "triton" else "cpu"
    results = ROOT / "benchmarks" / "results" / device / f"{op.__name__}.jsonl"
    circumstances = _circumstances(device)
    for case in cases:
        candidates = _candidates(op, impl, case, device)
        milliseconds = _interleaved(candidates, device)
        ratios = _ratios(milliseconds, impl)
        for name, times in milliseconds.items():
            low, median, high = _spread(times)
            record = {
                "operation": op.__name__,
                "implementation": name,
                "case": str(case),
                "median_ms": round(median, 4),
                "quantile_20_ms": round(low, 4),
                "quantile_80_ms": round(high, 4),
                "times_the_subject": round(ratios[name], 3),
                "saved_bytes": saved_bytes(candidates[name][0]),
            }
            _append(results, record | circumstances)
        yield f"{case}: " + ", ".join(
            f"{name} {statistics.median(milliseconds[name]):.3f} ms ({ratios[name]:.2f}x)"
            for name in milliseconds
        )


def _candidates(
    op: Callable[..., Any], impl: str, case: Case, device: str
) -> dict[str, tuple[Call, Call]]:
    """Return forward, and forward with backward, for each name."""
    inputs, settings = case.inputs(device), case.settings(device)
    leaf = inputs[0].detach().requires_grad_()

    def eager() -> Any:
        return op(leaf, *inputs[1:], impl="reference", **settings)

    torch._dynamo.reset()
    forwards: dict[str, Call] = {
        impl: lambda: op(leaf, *inputs[1:], impl=impl, **settings),
        "eager": eager,
        "torch.compile": torch.compile(eager),
    }
    first = _first(eager())
    upstream = torch.randn(first.shape, generator=torch.Generator().manual_seed(1)).to(first)

    def both(forward: Call) -> Call:
        return lambda: torch.autograd.grad(_first(forward()), leaf, upstream)

    return {name: (forward, both(forward)) for name, forward in forwards.items()}


def _interleaved(
    candidates: Mapping[str, tuple[Call, Call]], device: str
) -> dict[str, list[float]]:
    milliseconds: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(ROUNDS + 3):  # the first three warm up
        for name, (_, call) in candidates.items():
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if round_number >= 3:
                milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return milliseconds


def _ratios(milliseconds: Mapping[str, list[float]], subject: str) -> dict[str, float]:
    ours = milliseconds[subject]
    return {
        name: statistics.median(t / s for t, s in zip(times, ours, strict=True))
        for name, times in milliseconds.items()
    }


def _spread(times: list[float]) -> tuple[float, float, float]:
    fifths = statistics.quantiles(times, n=5)
    return fifths[0], statistics.median(times), fifths[-1]


def _first(result: Any) -> Tensor:
    first: Tensor = result if isinstance(result, Tensor) else result[0]
    return first


def _refuse_unfinished(folder: Path) -> None:
    """Raise unless the operation is committed and its tests pass."""
    measured = [str(folder), str(ROOT / "src/strop/core"), str(ROOT / "src/strop/testing")]
    if changed := _git("status", "--porcelain", "--", *measured):
        raise UnsupportedError(
            f"a measurement must name a commit, but these files differ from theirs:\n{changed}"
        )
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if tests.returncode:
        raise UnsupportedError(f"no speed from a red test:\n{tests.stdout[-2000:]}")


def _circumstances(device: str) -> dict[str, Any]:
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _append(path: Path, record: Mapping[str, Any]) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with files.written_whole(path) as scratch:
        scratch.write_text(f"{before}{json.dumps(record)}\n", encoding="utf-8")
